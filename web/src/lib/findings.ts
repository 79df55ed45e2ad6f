/** What a chart shows, as a sentence with its numbers. Pure. */

import type { Metrics, TraceView } from '../api/types';
import { loss, percent, significant } from './format';
import type { Measure } from './chart-data';

const FEW = 20;

/** The caption of a job's own curve. */
export function curveFinding(view: TraceView, metrics: Metrics | null, measure: Measure): string {
  const { epochs, base } = view;
  const first = epochs[0];
  const last = epochs.at(-1);
  if (!first || !last) return withoutEpochs(metrics, measure);
  if (measure === 'loss') {
    const train = first === last ? `Train loss was ${loss(first.train_loss)} in the first epoch` : moved('Train loss', first.train_loss, last.train_loss, loss);
    const best = epochs.filter((row) => row.valid_loss !== null).toSorted((a, b) => a.valid_loss! - b.valid_loss!)[0];
    if (!best) return `${train}; there is no held-out data.`;
    const before = base?.held_out ? `, ${loss(base.loss)} before training` : '';
    return `${train}; held-out loss is lowest after epoch ${best.epoch}: ${loss(best.valid_loss)}${before}.`;
  }
  if (measure === 'accuracy') {
    const write = (value: number | null) => percent(value);
    const train = first === last ? `Token accuracy was ${write(first.train_accuracy)} in the first epoch` : moved('Token accuracy', first.train_accuracy, last.train_accuracy, write);
    return last.valid_accuracy === null ? `${train}; there is no held-out data.` : `${train}; on held-out rows it is ${write(last.valid_accuracy)} now.`;
  }
  return withoutEpochs(metrics, measure);
}

function withoutEpochs(metrics: Metrics | null, measure: Measure): string {
  const values = (metrics && { loss: metrics.series.train_loss_mean, accuracy: metrics.series.accuracy_mean, learning_rate: metrics.series.learning_rate, grad_norm: metrics.series.grad_norm_mean }[measure])?.filter(
    (value) => value !== null,
  );
  if (!values?.length) return 'No step is done yet.';
  // Single steps scatter: what is compared are means of as many at both ends.
  const few = Math.max(1, Math.min(FEW, Math.floor(values.length / 2)));
  const mean = (some: readonly number[]) => some.reduce((sum, value) => sum + value, 0) / some.length;
  const [first, last] = [mean(values.slice(0, few)), mean(values.slice(-few))];
  const ends = few * metrics!.bucket > 1 ? ` (means of the first and the last ${few * metrics!.bucket} steps)` : '';
  if (measure === 'loss') return `${moved('Train loss', first, last, loss)} so far${ends}; no epoch is over yet.`;
  if (measure === 'accuracy') return `${moved('Token accuracy', first, last, (v) => percent(v))} so far${ends}; no epoch is over yet.`;
  const now = values.at(-1)!;
  const most = values.reduce((a, b) => Math.max(a, b));
  return measure === 'learning_rate'
    ? `The learning rate is ${significant(now)} now; its highest was ${significant(most)}.`
    : `The gradient norm, before clipping, is ${significant(now)} now; its highest was ${significant(most)}.`;
}

function moved(name: string, from: number | null, to: number | null, write: (value: number | null) => string): string {
  const [then, now] = [write(from), write(to)];
  if (from === null || to === null) return `${name} was ${then} at first and is ${now}`;
  if (then === now) return `${name} stays at ${now}`;
  return `${name} ${to < from ? 'fell' : 'rose'} from ${then} to ${now}`;
}
