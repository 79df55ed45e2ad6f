/** Addresses of places on a job's page: on a server one, in a saved page another. Pure. */

import type { JobData } from './jobdata';
import { jobPath } from './routes';
import { viewNamed } from './views';

/** The address of a place (an id of that view; none: the view itself). */
export function pointTo(data: Pick<JobData, 'row' | 'connection'>, view: string, anchor: string | null = null): string {
  const name = viewNamed(view);
  if (data.connection === 'static') return `#/${name}${anchor ? `/${encodeURIComponent(anchor)}` : ''}`;
  return `${jobPath(data.row.id, name)}${anchor ? `#${encodeURIComponent(anchor)}` : ''}`;
}
