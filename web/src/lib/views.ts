/** The nine views of a job: name, title, and the code that is fetched when one is opened. */

import type { Component } from 'svelte';
import type { JobData } from './jobdata';
import { VIEWS, type ViewName } from './routes';

export type View = Component<{ data: JobData }>;

export const TITLES: Record<ViewName, string> = {
  story: 'Story',
  data: 'Data',
  training: 'Training',
  examples: 'Examples',
  prediction: 'Prediction',
  compare: 'Compare',
  quiz: 'Quiz',
  code: 'Code',
  events: 'Events',
};

const LOADERS: Record<ViewName, () => Promise<{ default: View }>> = {
  story: () => import('../views/Story.svelte'),
  data: () => import('../views/Data.svelte'),
  training: () => import('../views/Training.svelte'),
  examples: () => import('../views/Examples.svelte'),
  prediction: () => import('../views/Prediction.svelte'),
  compare: () => import('../views/Compare.svelte'),
  quiz: () => import('../views/Quiz.svelte'),
  code: () => import('../views/Code.svelte'),
  events: () => import('../views/Events.svelte'),
};

export async function loadView(name: ViewName): Promise<View> {
  return (await LOADERS[name]()).default;
}

/** The view that a name from outside means (a quiz answer's, an insight's); the story where it is none of ours. */
export function viewNamed(name: string): ViewName {
  return VIEWS.find((view) => view === name) ?? 'story';
}
