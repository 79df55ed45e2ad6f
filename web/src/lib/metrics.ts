/** A job's series, and the steps that came since it was read. Pure. */

import type { StepDone } from '../api/trace';
import type { Metrics } from '../api/types';

export function noMetrics(): Metrics {
  const series: Metrics['series'] = {
    step: [],
    train_loss_min: [],
    train_loss_mean: [],
    train_loss_max: [],
    accuracy_mean: [],
    learning_rate: [],
    grad_norm_mean: [],
    tokens_per_second: [],
    valid: { step: [], loss: [], accuracy: [], full: [] },
  };
  return { object: 'luthier.metrics', steps: 0, bucket: 1, series };
}

/** The series with these steps behind it, each a point of its own; a step that a resumed run repeats replaces what stood from there on. */
export function extended(metrics: Metrics, steps: readonly StepDone[]): Metrics {
  if (!steps.length) return metrics;
  const first = steps.reduce((least, step) => Math.min(least, step.step), Infinity);
  const old = metrics.series;
  const keep = countBelow(old.step, first);
  const keepValid = countBelow(old.valid.step, first);
  const rows = steps.toSorted((a, b) => a.step - b.step).filter((step, i, all) => all[i + 1]?.step !== step.step);
  const tested = rows.filter((step) => step.valid_loss !== null);
  const joined = <T>(values: readonly T[], value: (step: StepDone) => T) => [...values.slice(0, keep), ...rows.map(value)];
  const joinedValid = <T>(values: readonly T[], value: (step: StepDone) => T) => [...values.slice(0, keepValid), ...tested.map(value)];
  return {
    ...metrics,
    steps: Math.max(metrics.steps, rows.at(-1)!.step),
    series: {
      step: joined(old.step, (step) => step.step),
      train_loss_min: joined(old.train_loss_min, (step) => step.loss),
      train_loss_mean: joined(old.train_loss_mean, (step) => step.loss),
      train_loss_max: joined(old.train_loss_max, (step) => step.loss),
      accuracy_mean: joined(old.accuracy_mean, (step) => step.token_accuracy),
      learning_rate: joined(old.learning_rate, (step) => step.learning_rate),
      grad_norm_mean: joined(old.grad_norm_mean, (step) => step.grad_norm),
      tokens_per_second: joined(old.tokens_per_second, (step) => step.tokens_per_second),
      valid: {
        step: joinedValid(old.valid.step, (step) => step.step),
        loss: joinedValid(old.valid.loss, (step) => step.valid_loss),
        accuracy: joinedValid(old.valid.accuracy, (step) => step.valid_accuracy),
        full: joinedValid(old.valid.full, () => false),
      },
    },
  };
}

function countBelow(sorted: readonly number[], bound: number): number {
  let count = sorted.length;
  while (count > 0 && sorted[count - 1]! >= bound) count -= 1;
  return count;
}
