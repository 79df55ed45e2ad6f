import { describe, expect, it } from 'vitest';
import type { StepDone } from '../src/api/trace';
import { extended, noMetrics } from '../src/lib/metrics';

const step = (number: number, loss: number, valid: number | null = null) =>
  ({ step: number, loss, token_accuracy: 0.5, learning_rate: 1e-3, grad_norm: 0.7, valid_loss: valid, valid_accuracy: valid && 0.6 }) as StepDone;

describe('steps behind a series', () => {
  it('stand there as they were measured', () => {
    const { series, steps } = extended(noMetrics(), [step(1, 3), step(2, 2, 1.5)]);
    expect([series.step, series.train_loss_mean, series.train_loss_min, steps]).toEqual([[1, 2], [3, 2], [3, 2], 2]);
    expect(series.valid).toEqual({ step: [2], loss: [1.5], accuracy: [0.6], full: [false] });
  });
  it('replace what a resumed run repeats', () => {
    const before = extended(noMetrics(), [step(1, 3), step(2, 2, 1.5), step(3, 1)]);
    const { series } = extended(before, [step(2, 2.5), step(3, 1.25)]);
    expect([series.step, series.train_loss_mean, series.valid.step]).toEqual([[1, 2, 3], [3, 2.5, 1.25], []]);
    expect(before.series.step).toEqual([1, 2, 3]);
  });
  it('leave the series alone where there are none', () => {
    const metrics = noMetrics();
    expect(extended(metrics, [])).toBe(metrics);
  });
});
