/** What an epoch's numbers mean, in plain words: the twin of `src/luthier/trace/observations.py`, rule by rule. Pure. */

import type { BaseMeasured, EpochDone, StepDone } from '../api/trace';
import { PREFERENCE_RULES as OF_PAIRS } from './preference-observations';
import { fixed } from './python';

export interface Facts {
  /** All epochs up to the one that is spoken of, in order. */
  rows: readonly EpochDone[];
  row: EpochDone;
  before: EpochDone | null;
  /** The earlier epoch with the lowest held-out loss. */
  bestBefore: EpochDone | null;
  base: BaseMeasured | null;
  /** The epoch's steps, in order. */
  steps: readonly StepDone[];
  /** Loss of the run's first step, where it is known. */
  start: number | null;
}

export interface Rule {
  name: string;
  holds: (facts: Facts) => boolean;
  says: (facts: Facts) => string;
}

// The meaning of each stands in observations.py.
const KNOWN_ACCURACY = 0.9;
const KNOWN_LOSS = 0.35;
const SPIKE_TOKENS = 40;
const SPIKE_FACTOR = 3.0;
const SPIKE_MARGIN = 1.0;
const SPIKE_HISTORY = 8;
const FAST_SHARE = 0.3;
const FLAT_SHARE = 0.02;
const RISE_SHARE = 0.01;
const MEMORISED_ACCURACY = 0.99;
const MEMORISED_LOSS = 0.05;

export const RULES: readonly Rule[] = [
  { name: 'not_finite', holds: notFinite, says: sayNotFinite },
  { name: 'base_knows', holds: known, says: sayKnown },
  { name: 'spike', holds: (facts) => spikeOf(facts) !== null, says: saySpike },
  { name: 'held_out_rises', holds: heldOutRises, says: sayHeldOutRises },
  { name: 'best_held_out', holds: best, says: sayBest },
  { name: 'fast', holds: fast, says: sayFast },
  { name: 'flat', holds: flat, says: sayFlat },
  { name: 'memorised', holds: memorised, says: sayMemorised },
  { name: 'no_held_out', holds: (facts) => facts.row.valid_loss === null, says: sayNoHeldOut },
  { name: 'changes', holds: () => true, says: sayChanges },
];
export const PREFERENCE_RULES: readonly Rule[] = [RULES[0]!, ...OF_PAIRS];

/** The first rule that holds for the last of `rows`, and the facts it looked at. */
export function ruleFor(rows: readonly EpochDone[], base: BaseMeasured | null, steps: readonly StepDone[]): [Rule, Facts] {
  const row = rows.at(-1)!;
  const facts: Facts = {
    rows,
    row,
    before: rows.at(-2) ?? null,
    bestBefore: lowestHeldOut(rows.slice(0, -1)),
    base,
    steps: steps.filter((step) => step.epoch === row.epoch),
    start: steps.find((step) => step.step === 1)?.loss ?? null,
  };
  const rules = row.preference === null ? RULES : PREFERENCE_RULES;
  return [rules.find((rule) => rule.holds(facts))!, facts];
}

/** The observation on the last of `rows`. */
export function observe(rows: readonly EpochDone[], base: BaseMeasured | null, steps: readonly StepDone[]): string {
  const [rule, facts] = ruleFor(rows, base, steps);
  return rule.says(facts);
}

function lowestHeldOut(rows: readonly EpochDone[]): EpochDone | null {
  let found: EpochDone | null = null;
  for (const row of rows) {
    if (row.valid_loss !== null && (found === null || row.valid_loss < found.valid_loss!)) found = row;
  }
  return found;
}

// Python's JSON has NaN and Infinity; where one came over as null it is no finite number either.
function isBad(value: number | null): boolean {
  return value === null || !Number.isFinite(value);
}

function notFinite({ row, rows, steps }: Facts): boolean {
  const heldOutBad = row.valid_loss !== null && !Number.isFinite(row.valid_loss);
  return heldOutBad || rows.some((r) => isBad(r.train_loss)) || steps.some((s) => isBad(s.loss));
}

function sayNotFinite({ steps }: Facts): string {
  const bad = steps.find((step) => isBad(step.loss));
  const where = bad ? ` at step ${bad.step}` : '';
  return `the loss is not a finite number${where}: the learning rate is too high, or the data holds something extreme`;
}

function known({ before, base }: Facts): boolean {
  return before === null && base !== null && base.accuracy >= KNOWN_ACCURACY && base.loss <= KNOWN_LOSS;
}

function sayKnown({ base }: Facts): string {
  const measured = `loss ${fixed(base!.loss, 2)}, accuracy ${fixed(base!.accuracy, 2)} before training`;
  return `the base already predicts this data (${measured}): little is left to learn`;
}

/** Neighbouring steps taken together until each window holds enough trained tokens; a shorter rest is left out. */
function windowsOf(steps: readonly StepDone[]): StepDone[][] {
  const windows: StepDone[][] = [];
  let pending: StepDone[] = [];
  for (const step of steps) {
    pending.push(step);
    if (tokensOf(pending) >= SPIKE_TOKENS) {
      windows.push(pending);
      pending = [];
    }
  }
  return windows;
}

function tokensOf(steps: readonly StepDone[]): number {
  return steps.reduce((sum, step) => sum + step.num_tokens, 0);
}

function meanLoss(window: readonly StepDone[]): number {
  return window.reduce((sum, step) => sum + step.loss * step.num_tokens, 0) / tokensOf(window);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** The first window of the epoch whose loss jumps, and the usual loss before it. */
function spikeOf({ steps, start }: Facts): [StepDone[], number] | null {
  const windows = windowsOf(steps);
  for (const [i, window] of windows.entries()) {
    const earlier = windows.slice(Math.max(0, i - SPIKE_HISTORY), i).map(meanLoss);
    if (earlier.length < 3) continue;
    const usual = median(earlier);
    const loss = meanLoss(window);
    const standsOut = loss > SPIKE_FACTOR * usual && loss > usual + SPIKE_MARGIN;
    if (standsOut && (start === null || loss > start)) return [window, usual];
  }
  return null;
}

function saySpike(facts: Facts): string {
  const [window, usual] = spikeOf(facts)!;
  const lines = [...new Set(window.flatMap((step) => step.lines))].toSorted((a, b) => a - b);
  const where = lines.length === 1 ? `line ${lines[0]}` : lines.length ? `lines ${lines.join(', ')}` : 'its rows';
  const when = window.length === 1 ? `step ${window[0]!.step}` : `steps ${window[0]!.step} to ${window.at(-1)!.step}`;
  return `the loss jumped to ${fixed(meanLoss(window), 2)} at ${when} (before it ${fixed(usual, 2)}): look at ${where}`;
}

function heldOutRises({ bestBefore, before, row }: Facts): boolean {
  if (bestBefore === null || before === null || row.valid_loss === null) return false;
  return row.valid_loss > bestBefore.valid_loss! * (1 + RISE_SHARE) && row.train_loss < before.train_loss;
}

function sayHeldOutRises({ bestBefore, before, row }: Facts): string {
  const found = bestBefore!;
  return (
    `held-out loss rises to ${fixed(row.valid_loss!, 2)} (best ${fixed(found.valid_loss!, 2)} in epoch ${found.epoch}) while train loss falls from ` +
    `${fixed(before!.train_loss, 2)} to ${fixed(row.train_loss, 2)}: epoch ${found.epoch} generalises best`
  );
}

function best({ bestBefore, row }: Facts): boolean {
  return bestBefore !== null && row.valid_loss !== null && row.valid_loss < bestBefore.valid_loss!;
}

function sayBest({ bestBefore, before, row }: Facts): string {
  const train = `train loss ${change(before!.train_loss, row.train_loss)}`;
  return `best held-out loss so far: ${fixed(row.valid_loss!, 3)} (before it ${fixed(bestBefore!.valid_loss!, 3)} in epoch ${bestBefore!.epoch}); ${train}`;
}

/** What to compare this epoch with: a name, the loss there, the same loss now. */
function referenceOf({ before, base, row }: Facts): [string, number, number] | null {
  if (before !== null) return ['train loss', before.train_loss, row.train_loss];
  if (base === null) return null;
  if (base.held_out) return row.valid_loss === null ? null : ['held-out loss', base.loss, row.valid_loss];
  return ['train loss', base.loss, row.train_loss];
}

function fast(facts: Facts): boolean {
  const found = referenceOf(facts);
  return found !== null && found[2] <= found[1] * (1 - FAST_SHARE);
}

function sayFast(facts: Facts): string {
  const [name, then, now] = referenceOf(facts)!;
  const since = facts.before === null ? 'in the base' : `in epoch ${facts.before.epoch}`;
  return `learning fast: ${name} ${fixed(now, 2)}, from ${fixed(then, 2)} ${since}; token accuracy ${fixed(facts.row.train_accuracy, 2)}`;
}

function flat({ before, row }: Facts): boolean {
  return before !== null && Math.abs(row.train_loss - before.train_loss) <= FLAT_SHARE * before.train_loss;
}

function sayFlat({ before, row }: Facts): string {
  return `flat: train loss ${fixed(before!.train_loss, 3)} -> ${fixed(row.train_loss, 3)}; more epochs at this rate would change little`;
}

function memorised({ row }: Facts): boolean {
  return row.train_accuracy >= MEMORISED_ACCURACY && row.train_loss <= MEMORISED_LOSS;
}

function sayMemorised({ row }: Facts): string {
  return `the training rows are known by heart (loss ${fixed(row.train_loss, 3)}, accuracy ${fixed(row.train_accuracy, 3)})`;
}

function sayNoHeldOut({ before, row }: Facts): string {
  const now =
    before === null
      ? `train loss ${fixed(row.train_loss, 2)}, accuracy ${fixed(row.train_accuracy, 2)}`
      : `train loss ${change(before.train_loss, row.train_loss)}`;
  return `${now}; no held-out data, so nothing tells whether it generalises`;
}

function sayChanges({ before, row }: Facts): string {
  if (before === null) return `first epoch: train loss ${fixed(row.train_loss, 2)}, held-out loss ${fixed(row.valid_loss!, 2)}`;
  const train = `train loss ${change(before.train_loss, row.train_loss)}`;
  if (before.valid_loss === null || row.valid_loss === null) return train;
  return `${train}, held-out loss ${change(before.valid_loss, row.valid_loss)}`;
}

function change(old: number, now: number): string {
  return `${fixed(old, 2)} -> ${fixed(now, 2)}`;
}
