/** What an empty place on a job's page says: what will stand there and when, or why it never will. Pure. */

import { FINAL, type JobRow } from '../api/types';
import { about, count } from './format';

type Waiting = Pick<JobRow, 'status' | 'eta_seconds' | 'queue_place'>;

/** What comes and when. `when`: "after each epoch", "at the end of the run". `never`: why a job that succeeded has none. */
export function expected(row: Waiting, when: string, never: string, it = 'It comes'): string {
  switch (row.status) {
    case 'succeeded':
      return never;
    case 'failed':
      return 'The job failed before it came this far.';
    case 'cancelled':
      return 'The job was cancelled before it came this far.';
    case 'paused':
      return `${it} ${when}. The job is paused; it goes on from where it stands when it is resumed.`;
    case 'running':
      return `${it} ${when}.${row.eta_seconds === null ? '' : ` The job takes ${about(row.eta_seconds)} more.`}`;
    default:
      return `${it} ${when}. ${row.queue_place === null ? 'The job waits for its turn.' : `The job is number ${count(row.queue_place)} in the queue.`}`;
  }
}

/** Whether more may still come. */
export function isOpen(row: Pick<JobRow, 'status'>): boolean {
  return !FINAL.includes(row.status);
}
