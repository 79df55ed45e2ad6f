import { describe, expect, it } from 'vitest';
import { folded, joined, laneName, nearest, runOf, tableOf, zoomed, type Run } from '../src/lib/chart-data';
import { curveFinding } from '../src/lib/findings';
import { extended, noMetrics } from '../src/lib/metrics';
import type { StepDone } from '../src/api/trace';
import { savedJob } from './fixtures/saved.mjs';

const one: Run = { id: 'a', label: 'a', step: [1, 3], mean: [2, 1], held: { step: [3, 4], value: [1.5, 1.25], full: [false, true] } };
const two: Run = { id: 'b', label: 'b', step: [2, 3], mean: [5, null], min: [4, 1], max: [6, 1] };

describe('runs on one axis', () => {
  it('stand on the union of their steps: nothing where a run has no point, a gap where it has no number', () => {
    const { x, lanes, columns } = joined([one, two]);
    expect(x).toEqual([1, 2, 3, 4]);
    expect(lanes.map((lane) => `${lane.run} ${lane.kind}`)).toEqual(['0 mean', '0 part', '0 full', '1 mean', '1 min', '1 max']);
    expect(columns[0]).toEqual([2, undefined, 1, undefined]);
    expect(columns[1]).toEqual([undefined, undefined, 1.5, undefined]);
    expect(columns[2]).toEqual([undefined, undefined, undefined, 1.25]);
    expect(columns[3]).toEqual([undefined, 5, null, undefined]);
    expect(laneName(lanes[2]!, [one, two])).toBe('a held-out');
  });

  it('have no band where every point is one step', () => {
    const flat: Run = { ...one, min: one.mean, max: one.mean };
    expect(joined([flat]).lanes.map((lane) => lane.kind)).toEqual(['mean', 'part', 'full']);
  });

  it('have no bands where there are many of them', () => {
    expect(joined([two, one]).lanes.some((lane) => lane.kind === 'max')).toBe(true);
    expect(joined([two, one, two]).lanes.some((lane) => lane.kind === 'max')).toBe(false);
  });

  it('are a table with the same numbers', () => {
    const table = tableOf([one], (value) => value.toFixed(1));
    expect(table.columns.map((column) => column.label)).toEqual(['Step', 'a', 'a held-out, in part', 'a held-out']);
    expect(table.rows).toEqual([
      [1, 2, null, null],
      [3, 1, 1.5, null],
      [4, null, null, 1.25],
    ]);
    expect(table.columns[1]!.write!(2)).toBe('2.0');
  });

  it('join ten runs of two thousand points without losing one', () => {
    const runs = Array.from({ length: 10 }, (_, r): Run => ({ id: `${r}`, label: `${r}`, step: Array.from({ length: 2000 }, (__, i) => i * 500 + r), mean: Array(2000).fill(r) }));
    const { x, columns } = joined(runs);
    expect(x).toHaveLength(20_000);
    expect(columns.map((column) => column.filter((value) => value !== undefined).length)).toEqual(Array(10).fill(2000));
  });

  it('take each measure from a job’s series', () => {
    const metrics = savedJob().metrics!;
    expect(runOf('j', 'j', metrics, 'loss').mean).toEqual([3, 2, 1.5, 1]);
    expect(runOf('j', 'j', metrics, 'accuracy').held!.value).toEqual([0.625, 0.625]);
    expect(runOf('j', 'j', metrics, 'grad_norm').mean).toEqual([0.7, 0.7, 0.7, 0.7]);
  });
});

describe('a long run', () => {
  const steps = Array.from({ length: 10 }, (_, i) => i + 1);
  const long: Run = { id: 'l', label: 'l', step: steps, mean: [1, 2, 3, 4, null, 6, null, null, 9, 10] };

  it('is drawn as means with their lowest and highest', () => {
    const short = folded(long, 5, null);
    expect(short.step).toEqual([1, 3, 5, 7, 9]);
    expect(short.mean).toEqual([1.5, 3.5, 6, null, 9.5]);
    expect(short.min).toEqual([1, 3, 6, null, 9]);
    expect(short.max).toEqual([2, 4, 6, null, 10]);
    expect(short.bucket).toBe(2);
    expect(folded({ ...long, bucket: 50 }, 5, null).bucket).toBe(100);
  });

  it('keeps the true lowest and highest of points that stand for several steps already', () => {
    const banded: Run = { ...long, min: steps.map((s) => s - 0.5), max: steps.map((s) => s + 0.5) };
    expect(folded(banded, 5, null).min![0]).toBe(0.5);
    expect(folded(banded, 5, null).max![0]).toBe(2.5);
  });

  it('shows each step when it is looked at closely, and as it is when it is short', () => {
    expect(folded(long, 5, [2, 6])).toBe(long);
    expect(folded(long, 10, null)).toBe(long);
  });
});

describe('zoom by key', () => {
  it('goes in, out and along, never outside', () => {
    const whole: [number, number] = [0, 100];
    const near = zoomed(whole, whole, '+');
    expect(near[1] - near[0]).toBeCloseTo(62.5);
    expect(zoomed(near, whole, '-')).toEqual([0, 100]);
    expect(zoomed([0, 20], whole, 'left')).toEqual([0, 20]);
    expect(zoomed([0, 20], whole, 'right')).toEqual([4, 24]);
    expect(zoomed([90, 100], whole, 'right')).toEqual([90, 100]);
    expect(zoomed([95, 100], whole, '-')[1]).toBe(100);
  });
});

describe('what a curve says', () => {
  const { view, metrics } = savedJob();
  it('in its own numbers', () => {
    expect(curveFinding(view, metrics, 'loss')).toBe('Train loss fell from 2.50 to 1.25; held-out loss is lowest after epoch 2: 1.00, 3.50 before training.');
    expect(curveFinding(view, metrics, 'accuracy').replaceAll('\u202f', ' ')).toBe('Token accuracy rose from 70 % to 90 %; on held-out rows it is 80 % now.');
  });
  it('before an epoch is over, and before there is anything', () => {
    const young = { ...view, epochs: [] };
    expect(curveFinding(young, metrics, 'loss')).toBe('Train loss fell from 2.50 to 1.25 so far (means of the first and the last 2 steps); no epoch is over yet.');
    expect(curveFinding(young, null, 'loss')).toBe('No step is done yet.');
    const still = extended(noMetrics(), [{ step: 1, loss: 1, valid_loss: null } as StepDone]);
    expect(curveFinding(young, still, 'loss')).toBe('Train loss stays at 1.00 so far; no epoch is over yet.');
  });
});

describe('the nearest point', () => {
  it.each([
    [0, 0],
    [1.4, 0],
    [4, 1],
    [6, 1],
    [6.5, 2],
    [99, 3],
  ])('to %s', (value, index) => expect(nearest([1, 5, 7, 20], value)).toBe(index));
});
