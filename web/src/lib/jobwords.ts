/** What a job's row says in words: its name, how far it is, what is left. Pure. */

import { FINAL, type JobRow } from '../api/types';
import { about, ago, count, duration } from './format';

export function jobName(row: JobRow): string {
  return row.suffix ?? row.id;
}

/** 0 to 1; null where no step is known. */
export function progressOf(row: JobRow): number | null {
  if (row.status === 'succeeded') return 1;
  return row.step === null || !row.total_steps ? null : Math.min(1, row.step / row.total_steps);
}

export function isFinal(row: JobRow): boolean {
  return FINAL.includes(row.status);
}

/** What a person waits for: the place in the queue, the time left, or how long it took. */
export function waitOf(row: JobRow, now: number = Date.now() / 1000): string {
  switch (row.status) {
    case 'validating_files':
      return row.queue_place === null ? 'its files are being read' : 'waiting for the worker';
    case 'queued':
      return row.queue_place === null ? 'waits for a trainer' : row.queue_place <= 1 ? 'next in the queue' : `place ${count(row.queue_place)} in the queue`;
    case 'running':
      // It had a trainer, which is gone: after a restart, or a crash.
      if (row.queue_place !== null) return 'waiting for the worker';
      return row.eta_seconds === null ? 'no estimate yet' : `${about(row.eta_seconds)} left`;
    case 'paused':
      return row.step ? `stands at step ${count(row.step)}` : 'stands still';
    default:
      if (row.started_at === null || row.finished_at === null) return row.finished_at === null ? '' : `ended ${ago(row.finished_at, now)}`;
      return `took ${duration(row.finished_at - row.started_at)}`;
  }
}

/** Step 120 of 500, epoch 2 of 5. */
export function stepsOf(row: JobRow): string {
  if (row.step === null || row.total_steps === null) return '';
  const epochs = row.epoch !== null && row.total_epochs !== null ? `, epoch ${count(row.epoch)} of ${count(row.total_epochs)}` : '';
  return `step ${count(row.step)} of ${count(row.total_steps)}${epochs}`;
}
