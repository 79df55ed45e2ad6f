/** Series of several runs on one axis of steps, as a chart and as a table. Pure; `components/Chart.svelte` draws. */

import type { Metrics } from '../api/types';
import type { Cell, Column, TableData } from './csv';
import { loss, percent, significant } from './format';

type Values = readonly (number | null)[];

/** One run's curve. */
export interface Run {
  id: string;
  label: string;
  step: readonly number[];
  mean: Values;
  /** Steps behind each point; 1 where it is not given. */
  bucket?: number;
  /** The lowest and the highest of the steps behind each point, where a point stands for several. */
  min?: Values;
  max?: Values;
  /** Held-out measures: `full` ones over the whole validation file, the others over a part of it. */
  held?: { step: readonly number[]; value: Values; full: readonly boolean[] };
}

export interface Mark {
  at: number;
  label: string;
}

export const MEASURES = {
  loss: { label: 'Loss', unit: 'nats per token' },
  accuracy: { label: 'Token accuracy', unit: '' },
  learning_rate: { label: 'Learning rate', unit: '' },
  grad_norm: { label: 'Gradient norm', unit: '' },
} as const;
export type Measure = keyof typeof MEASURES;

/** How a measure's values are written. */
export function writerOf(measure: Measure): (value: number) => string {
  return measure === 'loss' ? loss : measure === 'accuracy' ? (value) => percent(value, 1) : (value) => significant(value);
}

/** What stands at the axis. */
export function labelOf(measure: Measure): string {
  const { label, unit } = MEASURES[measure];
  return unit ? `${label}, ${unit}` : label;
}

/** A job's series of one measure. */
export function runOf(id: string, label: string, metrics: Metrics, measure: Measure): Run {
  const { series } = metrics;
  const base = { id, label, step: series.step, bucket: metrics.bucket };
  switch (measure) {
    case 'loss':
      return {
        ...base,
        mean: series.train_loss_mean,
        min: series.train_loss_min,
        max: series.train_loss_max,
        held: { step: series.valid.step, value: series.valid.loss, full: series.valid.full },
      };
    case 'accuracy':
      return { ...base, mean: series.accuracy_mean, held: { step: series.valid.step, value: series.valid.accuracy, full: series.valid.full } };
    case 'learning_rate':
      return { ...base, mean: series.learning_rate };
    case 'grad_norm':
      return { ...base, mean: series.grad_norm_mean };
  }
}

/**
 * The run with at most about `most` points inside the range (the whole where it is null): neighbours are taken together, their mean as
 * the line, their lowest and highest as the band. Single steps of small batches scatter so much that a line through all of them shows nothing.
 */
export function folded(run: Run, most: number, range: readonly [number, number] | null): Run {
  const inside = range === null ? run.step.length : run.step.filter((step) => step >= range[0] && step <= range[1]).length;
  const size = Math.ceil(inside / most);
  if (size <= 1) return run;
  const starts = Array.from({ length: Math.ceil(run.step.length / size) }, (_, i) => i * size);
  const groups = (values: Values, of: (known: number[]) => number) =>
    starts.map((start) => {
      const known = values.slice(start, start + size).filter((value) => value !== null);
      return known.length ? of(known) : null;
    });
  return {
    ...run,
    bucket: size * (run.bucket ?? 1),
    step: starts.map((start) => run.step[Math.min(run.step.length - 1, start + ((size - 1) >> 1))]!),
    mean: groups(run.mean, (known) => known.reduce((sum, value) => sum + value, 0) / known.length),
    min: groups(run.min ?? run.mean, (known) => Math.min(...known)),
    max: groups(run.max ?? run.mean, (known) => Math.max(...known)),
  };
}

/** A column of the joined data: what it is and whose. */
export interface Lane {
  run: number;
  kind: 'mean' | 'min' | 'max' | 'full' | 'part';
}

/** undefined: this run has no point at that step; null: it has one that is no number, and the line breaks there. */
export type Joined = { x: number[]; lanes: Lane[]; columns: (number | null | undefined)[][] };

/** Bands over bands hide the lines. */
const MOST_BANDS = 2;

/** All runs on the union of their steps. */
export function joined(runs: readonly Run[]): Joined {
  const x = [...new Set(runs.flatMap((run) => [...run.step, ...(run.held?.step ?? [])]))].sort((a, b) => a - b);
  const place = new Map(x.map((step, i) => [step, i]));
  const lanes: Lane[] = [];
  const columns: Joined['columns'] = [];
  const add = (lane: Lane, steps: readonly number[], values: Values, wanted: (i: number) => boolean = () => true) => {
    const column = Array<number | null | undefined>(x.length).fill(undefined);
    steps.forEach((step, i) => wanted(i) && (column[place.get(step)!] = values[i] ?? null));
    lanes.push(lane);
    columns.push(column);
  };
  runs.forEach((run, i) => {
    add({ run: i, kind: 'mean' }, run.step, run.mean);
    if (runs.length <= MOST_BANDS && run.min && run.max && banded(run)) {
      add({ run: i, kind: 'min' }, run.step, run.min);
      add({ run: i, kind: 'max' }, run.step, run.max);
    }
    const { held } = run;
    if (held?.step.length) {
      if (held.full.some((full) => !full)) add({ run: i, kind: 'part' }, held.step, held.value, (j) => !held.full[j]);
      if (held.full.some(Boolean)) add({ run: i, kind: 'full' }, held.step, held.value, (j) => held.full[j] === true);
    }
  });
  return { x, lanes, columns };
}

/** True where a point stands for more than one step. */
function banded(run: Run): boolean {
  return run.step.some((_, i) => run.min![i] !== run.max![i]);
}

const WORDS: Record<Lane['kind'], string> = { mean: '', min: ' (least)', max: ' (most)', part: ' held-out, in part', full: ' held-out' };

export function laneName(lane: Lane, runs: readonly Run[]): string {
  const { label } = runs[lane.run]!;
  return `${label}${WORDS[lane.kind]}`;
}

/** The same numbers as rows. */
export function tableOf(runs: readonly Run[], write: (value: number) => string): TableData {
  const { x, lanes, columns } = joined(runs);
  const shown = (value: Cell) => (typeof value === 'number' ? write(value) : '');
  const heads: Column[] = lanes.map((lane) => ({ label: laneName(lane, runs), numeric: true, write: shown }));
  return {
    columns: [{ label: 'Step', numeric: true }, ...heads],
    rows: x.map((step, i) => [step, ...columns.map((column) => column[i] ?? null)]),
  };
}

/** A range of steps after a key: + and - zoom about the middle, left and right move by a fifth; never outside the whole. */
export function zoomed(range: readonly [number, number], whole: readonly [number, number], key: '+' | '-' | 'left' | 'right'): [number, number] {
  const [from, to] = range;
  const width = to - from;
  const most = whole[1] - whole[0];
  if (key === 'left' || key === 'right') {
    const by = (key === 'left' ? -1 : 1) * (width / 5);
    const start = Math.min(Math.max(from + by, whole[0]), whole[1] - width);
    return [start, start + width];
  }
  const next = Math.min(most, key === '+' ? Math.max(width / 1.6, Math.min(most, 4)) : width * 1.6);
  const start = Math.min(Math.max((from + to) / 2 - next / 2, whole[0]), whole[1] - next);
  return [start, start + next];
}

/** The index of the value nearest to this one, in sorted values that are not empty. */
export function nearest(sorted: readonly number[], value: number): number {
  let [low, high] = [0, sorted.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low > 0 && value - sorted[low - 1]! <= sorted[low]! - value ? low - 1 : low;
}
