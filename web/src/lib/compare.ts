/** Base against tuned on the held-out rows: single answers with a verdict, filters, and the finding in words. Pure. */

import type { Evaluation } from '../api/types';
import { count, loss, percent } from './format';

export type Verdict = 'better' | 'worse' | 'same';
export const VERDICTS: readonly Verdict[] = ['better', 'worse', 'same'];
/** Sign and word: a verdict is never a colour alone. */
export const SIGNS: Record<Verdict, string> = { better: '▲', worse: '▼', same: '=' };

export interface Answer {
  line: number | null;
  prompt: string;
  expected: string;
  base: string;
  tuned: string;
  baseLoss: number | null;
  tunedLoss: number | null;
  verdict: Verdict | null;
  baseRight: boolean;
  tunedRight: boolean;
}

/** The kept answers. A verdict that the report does not name stays null. */
export function answersOf(evaluation: Evaluation): Answer[] {
  return evaluation.samples.map((one) => ({
    line: number(one.line),
    prompt: one.prompt,
    expected: one.expected,
    base: one.base,
    tuned: one.tuned,
    baseLoss: number(one.base_loss),
    tunedLoss: number(one.tuned_loss),
    verdict: VERDICTS.find((verdict) => verdict === one.verdict) ?? null,
    baseRight: one.base.trim() === one.expected.trim(),
    tunedRight: one.tuned.trim() === one.expected.trim(),
  }));
}

/** Those of the verdict (null: all) in which the words stand, whatever their case. */
export function filtered(answers: readonly Answer[], verdict: Verdict | null, words: string): Answer[] {
  const wanted = words.toLocaleLowerCase().trim();
  return answers.filter(
    (one) =>
      (verdict === null || one.verdict === verdict) &&
      (wanted === '' || [one.prompt, one.expected, one.base, one.tuned].some((text) => text.toLocaleLowerCase().includes(wanted))),
  );
}

/** "The tuned model is better on 41 of 41 held-out rows, worse on 0." */
export function compareFinding(evaluation: Evaluation): string {
  const { n, better, worse, same, base, tuned } = evaluation;
  const rows = `of ${count(n)} held-out ${n === 1 ? 'row' : 'rows'}`;
  const losses = base && tuned ? ` Their loss went from ${loss(base.loss)} to ${loss(tuned.loss)}.` : '';
  if (better === worse && !better) return `Base and tuned are the same on all ${count(same)} ${rows}.${losses}`;
  return `The tuned model is better on ${count(better)} ${rows}, worse on ${count(worse)}, the same on ${count(same)}.${losses}`;
}

/** Base, tuned and n of each measure that was taken. */
export function measures(evaluation: Evaluation): { name: string; base: string; tuned: string; better: boolean | null }[] {
  const { base, tuned } = evaluation;
  if (!base || !tuned) return [];
  const rows: { name: string; base: string; tuned: string; better: boolean | null }[] = [
    { name: 'loss', base: loss(base.loss), tuned: loss(tuned.loss), better: compared(tuned.loss, base.loss, -1) },
    { name: 'token accuracy', base: percent(base.accuracy, 1), tuned: percent(tuned.accuracy, 1), better: compared(tuned.accuracy, base.accuracy, 1) },
    {
      name: 'answers exactly as expected',
      base: `${count(base.exact_match * evaluation.n)} of ${count(evaluation.n)}`,
      tuned: `${count(tuned.exact_match * evaluation.n)} of ${count(evaluation.n)}`,
      better: compared(tuned.exact_match, base.exact_match, 1),
    },
  ];
  const pairs = evaluation.preference as { base?: { prefers?: unknown }; tuned?: { prefers?: unknown } } | null | undefined;
  const before = number(pairs?.base?.prefers);
  const now = number(pairs?.tuned?.prefers);
  if (before !== null && now !== null) {
    rows.push({ name: 'pairs whose preferred answer is the likelier', base: percent(before), tuned: percent(now), better: compared(now, before, 1) });
  }
  return rows;
}

function compared(now: number | null, before: number | null, way: 1 | -1): boolean | null {
  return now === null || before === null || now === before ? null : (now - before) * way > 0;
}

function number(value: unknown): number | null {
  return typeof value === 'number' ? value : null;
}
