/** A component in a page of its own: mount it, look, take it away. */

import { flushSync, mount, unmount, type Component, type ComponentProps } from 'svelte';
import { savedJob } from '../fixtures/saved.mjs';
import type { JobActions, JobData } from '../../src/lib/jobdata';

let shown: Record<string, unknown>[] = [];

/** The page after the component is drawn. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- any component; its own props are checked below
export function draw<C extends Component<any>>(component: C, props: ComponentProps<C>): HTMLElement {
  const target = document.body.appendChild(document.createElement('div'));
  shown.push(mount(component, { target, props }));
  flushSync();
  return target;
}

export function clear(): void {
  for (const component of shown) void unmount(component);
  shown = [];
  document.body.replaceChildren();
}

/** The golden job as a view reads it; parts may be replaced. */
export function goldenJob(parts: Partial<JobData> = {}, actions: Partial<JobActions> | null = null): JobData {
  return { ...savedJob(), connection: actions ? 'live' : 'static', actions: actions as JobActions | null, ...parts };
}
