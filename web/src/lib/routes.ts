/** Which screen an address means, and the address of a screen. Pure; `router.svelte.ts` listens to the browser. */

export const VIEWS = ['story', 'data', 'training', 'examples', 'prediction', 'compare', 'quiz', 'code', 'events'] as const;
export type ViewName = (typeof VIEWS)[number];

export type Route =
  | { screen: 'jobs'; compare: string[] }
  | { screen: 'job'; id: string; view: ViewName }
  | { screen: 'new' }
  | { screen: 'data' }
  | { screen: 'dataset'; file: string }
  | { screen: 'playground' }
  | { screen: 'models' }
  | { screen: 'system' }
  | { screen: 'unknown'; path: string };

export const BASE = '/ui';

/** The route of an address on this server. */
export function routeOf(path: string, query: URLSearchParams): Route {
  const unknown: Route = { screen: 'unknown', path };
  if (path !== BASE && !path.startsWith(`${BASE}/`)) return unknown;
  const parts = path.slice(BASE.length).split('/').filter(Boolean).map(decoded);
  const [first, second, third] = parts;
  if (parts.length > 3) return unknown;
  switch (first) {
    case undefined:
      return { screen: 'jobs', compare: [] };
    case 'jobs':
      if (second === undefined) return { screen: 'jobs', compare: listed(query.get('compare')) };
      if (third === undefined) return { screen: 'job', id: second, view: 'story' };
      return isView(third) ? { screen: 'job', id: second, view: third } : unknown;
    case 'data':
      if (third !== undefined) return unknown;
      return second === undefined ? { screen: 'data' } : { screen: 'dataset', file: second };
    case 'new':
    case 'playground':
    case 'models':
    case 'system':
      return second === undefined ? { screen: first } : unknown;
    default:
      return unknown;
  }
}

/** The address of a job's view; the story stands at the job itself. */
export function jobPath(id: string, view: ViewName = 'story'): string {
  return `${BASE}/jobs/${encodeURIComponent(id)}${view === 'story' ? '' : `/${view}`}`;
}

export function dataPath(file: string): string {
  return `${BASE}/data/${encodeURIComponent(file)}`;
}

/** The overlay of several jobs. */
export function comparePath(ids: readonly string[]): string {
  return ids.length ? `${BASE}/jobs?compare=${ids.map(encodeURIComponent).join(',')}` : `${BASE}/jobs`;
}

/** The playground with these models, one pane each: a, b, c... */
export function playgroundPath(models: readonly string[]): string {
  const query = new URLSearchParams(models.map((model, i) => [String.fromCharCode(97 + i), model]));
  return `${BASE}/playground${models.length ? `?${query}` : ''}`;
}

function isView(name: string): name is ViewName {
  return (VIEWS as readonly string[]).includes(name);
}

function listed(text: string | null): string[] {
  return text ? [...new Set(text.split(',').filter(Boolean))] : [];
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
