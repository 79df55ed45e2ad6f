/** What an epoch of a preference run means: the twin of `src/luthier/trace/preference_observations.py`. Pure. */

import type { Facts, Rule } from './observations';
import { fixed, wholePercent } from './python';

type Measures = Record<string, number>;

const FALL_SHARE = 0.1;
const FALL_NATS = 1.0;
const MARGIN_SHARE = 0.1;
const UNMOVED_MARGIN = 0.01;

export const PREFERENCE_RULES: readonly Rule[] = [
  { name: 'chosen_falls', holds: falls, says: sayFalls },
  { name: 'margin_falls', holds: overfits, says: sayOverfits },
  { name: 'unmoved', holds: (facts) => Math.abs(come(shown(facts), facts)) < UNMOVED_MARGIN, says: sayUnmoved },
  { name: 'prefers', holds: () => true, says: sayPrefers },
];

function at(measures: Measures, name: string): number {
  const value = measures[name];
  if (value === undefined) throw new Error(`a preference run without ${name}`);
  return value;
}

/** An empty record counts as none, as in Python. */
function some(measures: Measures | null): Measures | null {
  return measures && Object.keys(measures).length ? measures : null;
}

/** Held-out pairs where there are any, else those that were trained on. */
function shown({ row }: Facts): Measures {
  return some(row.valid_preference) ?? row.preference ?? {};
}

/** The start on the same pairs: the base is measured on held-out pairs, or without them on training pairs. */
function comparable({ base, row }: Facts): Measures | null {
  if (base === null || base.held_out !== (row.valid_preference !== null)) return null;
  return some(base.preference);
}

/** How far a margin is from where it started: without a reference (ORPO) it begins anywhere. */
function come(measures: Measures, facts: Facts): number {
  const before = comparable(facts);
  return at(measures, 'reward_margin') - (before ? at(before, 'reward_margin') : 0);
}

function prefers(facts: Facts): string {
  const where = some(facts.row.valid_preference) ? 'held-out pairs' : 'training pairs';
  const before = comparable(facts);
  const start = before ? `, ${wholePercent(at(before, 'prefers'))} before` : '';
  return `finds the preferred answer the likelier one in ${wholePercent(at(shown(facts), 'prefers'))} of the ${where}${start}`;
}

function margin(facts: Facts): string {
  const now = shown(facts);
  return `reward margin ${fixed(at(now, 'reward_margin'), 2)}, accuracy ${wholePercent(at(now, 'reward_accuracy'))}`;
}

function falls(facts: Facts): boolean {
  const now = shown(facts);
  const before = comparable(facts);
  if (!before || at(now, 'reward_margin') <= 0) return false;
  const then = at(before, 'logp_chosen');
  return then - at(now, 'logp_chosen') > Math.max(FALL_NATS, FALL_SHARE * Math.abs(then));
}

function sayFalls(facts: Facts): string {
  const then = fixed(at(comparable(facts)!, 'logp_chosen'), 1);
  return (
    `${prefers(facts)}; but the preferred answers themselves became less likely (log-probability ${then} -> ` +
    `${fixed(at(shown(facts), 'logp_chosen'), 1)}): the other answers only fell further. If answers get worse, use a smaller ` +
    'learning_rate_multiplier, a larger beta, or tune on the preferred answers first'
  );
}

function overfits(facts: Facts): boolean {
  const { row, rows } = facts;
  const now = some(row.valid_preference);
  const earlier = rows.slice(0, -1).filter((r) => some(r.valid_preference) && some(r.preference));
  if (!now || !earlier.length || !some(row.preference)) return false;
  const best = Math.max(...earlier.map((r) => come(r.valid_preference!, facts)));
  const trained = at(earlier.at(-1)!.preference!, 'reward_margin');
  return come(now, facts) < best * (1 - MARGIN_SHARE) && at(row.preference!, 'reward_margin') > trained;
}

function sayOverfits(facts: Facts): string {
  const held = facts.rows.slice(0, -1).filter((r) => some(r.valid_preference));
  // The first of equal ones, as Python's max takes it.
  const best = held.reduce((a, b) => (at(b.valid_preference!, 'reward_margin') > at(a.valid_preference!, 'reward_margin') ? b : a));
  return (
    `the held-out margin falls to ${fixed(at(shown(facts), 'reward_margin'), 2)} (best ${fixed(at(best.valid_preference!, 'reward_margin'), 2)} in epoch ` +
    `${best.epoch}) while that of the training pairs rises to ${fixed(at(facts.row.preference!, 'reward_margin'), 2)}: epoch ${best.epoch} generalises ` +
    `best; ${prefers(facts)}`
  );
}

function sayUnmoved(facts: Facts): string {
  return `hardly moved from where it started (${margin(facts)}): a larger learning_rate_multiplier or more epochs; ${prefers(facts)}`;
}

function sayPrefers(facts: Facts): string {
  const unknown = some(facts.row.valid_preference) ? '' : '; no held-out data, so nothing tells whether it generalises';
  return `${prefers(facts)}; ${margin(facts)}${unknown}`;
}
