/** The events view's rows: the log, the files and the raw numbers, as tables that are shown and saved alike. Pure. */

import type { JobEvent, JobRow, Metrics, TraceView } from '../api/types';
import type { TableData } from './csv';
import { clock, count, counted, loss, moment, percent, significant } from './format';

export type Level = 'all' | 'messages' | 'metrics' | 'trouble';
export const LEVELS: Record<Level, string> = { messages: 'Messages', trouble: 'Warnings and errors', metrics: 'Steps', all: 'All' };

/** Events of that kind in which the words stand, newest first. */
export function chosenEvents(events: readonly JobEvent[], level: Level, words: string): JobEvent[] {
  const wanted = words.toLocaleLowerCase().trim();
  return events
    .filter((one) => {
      if (level === 'trouble' && one.level === 'info') return false;
      if (level === 'messages' && one.type === 'metrics') return false;
      if (level === 'metrics' && one.type !== 'metrics') return false;
      return wanted === '' || one.message.toLocaleLowerCase().includes(wanted);
    })
    .toReversed();
}

/** Older ones before newer ones, each once. */
export function joined(older: readonly JobEvent[], newer: readonly JobEvent[]): JobEvent[] {
  const known = new Set(newer.map((one) => one.id));
  return [...older.filter((one) => !known.has(one.id)), ...newer];
}

export function eventTable(events: readonly JobEvent[]): TableData {
  return {
    columns: [{ label: 'time', write: (value) => `${moment(value as number).slice(0, 10)} ${clock(value as number)}` }, { label: 'level' }, { label: 'message' }],
    rows: events.map((one) => [one.created_at, one.level, one.message]),
  };
}

/** The steps as the server has them: one row a bucket. */
export function stepTable(metrics: Metrics): TableData {
  const { series } = metrics;
  const valid = new Map(series.valid.step.map((step, i) => [step, i]));
  const of = (step: number, values: readonly (number | null)[]) => {
    const at = valid.get(step);
    return at === undefined ? null : (values[at] ?? null);
  };
  const number = (label: string, write: (value: number | null) => string) => ({ label, numeric: true, write: (value: unknown) => write(value as number | null) });
  return {
    columns: [
      number('step', count),
      number('train loss', loss),
      number('lowest', loss),
      number('highest', loss),
      number('token accuracy', (value) => percent(value, 1)),
      number('learning rate', significant),
      number('gradient norm', significant),
      number('held-out loss', loss),
      number('held-out accuracy', (value) => percent(value, 1)),
    ],
    rows: series.step.map((step, i) => [
      step,
      series.train_loss_mean[i],
      series.train_loss_min[i],
      series.train_loss_max[i],
      series.accuracy_mean[i],
      series.learning_rate[i],
      series.grad_norm_mean[i],
      of(step, series.valid.loss),
      of(step, series.valid.accuracy),
    ]),
  };
}

/** "990 steps; the train loss went from 4.1 to 0.02." */
export function stepFinding(metrics: Metrics): string {
  const means = metrics.series.train_loss_mean.filter((value): value is number => value !== null);
  const each = metrics.bucket > 1 ? ` in rows of ${counted(metrics.bucket, 'step')}` : '';
  if (means.length < 2) return `${counted(metrics.steps, 'step')}${each}.`;
  return `${counted(metrics.steps, 'step')}${each}; the train loss went from ${loss(means[0])} to ${loss(means.at(-1))}.`;
}

/** The job's numbers that are plain values, by name. */
export function specTable(view: TraceView): TableData {
  const spec = view.spec?.spec ?? {};
  return {
    columns: [{ label: 'number' }, { label: 'value' }],
    rows: Object.entries(spec).map(([name, value]) => [name, typeof value === 'object' ? JSON.stringify(value) : String(value)]),
  };
}

/** All that this page knows of the job, to be saved. */
export function everything(job: { row: JobRow; view: TraceView; metrics: Metrics | null; events: readonly JobEvent[] }): string {
  return `${JSON.stringify({ job: job.row, trace: job.view, metrics: job.metrics, events: job.events }, null, 2)}\n`;
}
