/** What an empty place on a job's page says: what will stand there and when, or why it never will. Pure. */

import { FINAL, type JobRow } from '../api/types';
import { about, count } from './format';

type Waiting = Pick<JobRow, 'status' | 'eta_seconds' | 'queue_place'>;

/** One sentence. `when`: "after each epoch", "at the end of the run". `never`: why a job that succeeded has none. */
export function expected(row: Waiting, when: string, never: string): string {
  switch (row.status) {
    case 'succeeded':
      return never;
    case 'failed':
      return `The job failed before it came this far; it would have come ${when}.`;
    case 'cancelled':
      return `The job was cancelled before it came this far; it would have come ${when}.`;
    case 'paused':
      return `It comes ${when}. The job is paused; it goes on from where it stands when it is resumed.`;
    case 'running':
      return `It comes ${when}.${row.eta_seconds === null ? '' : ` The job takes ${about(row.eta_seconds)} more.`}`;
    default:
      return `It comes ${when}. ${row.queue_place === null ? 'The job waits for its turn.' : `The job is number ${count(row.queue_place)} in the queue.`}`;
  }
}

/** Whether more may still come. */
export function isOpen(row: Pick<JobRow, 'status'>): boolean {
  return !FINAL.includes(row.status);
}
