/** A prediction's trace as the view draws it: what the run recorded and what the server traced, in one form; findings in words. Pure. */

import type { ForcedToken, PathStep, PredictionLayers, PredictionSide, PredictionTrace, RecordedPrediction } from '../api/types';
import { shownTokens } from './characters';
import { percent, probability, signed, visible } from './format';

/** What the run itself recorded of one unseen prompt, as a trace without layers. Null where it recorded no answer of the tuned model. */
export function recordedTrace(recorded: RecordedPrediction | null, model: string, base: string): PredictionTrace | null {
  if (!recorded?.tuned) return null;
  const side = (one: { answer: string; path: PathStep[] }): PredictionSide => ({ answer: one.answer, finish_reason: one.path.at(-1)?.end ? 'stop' : null, path: one.path });
  const reason = 'The run itself keeps tokens and probabilities only; the layers are computed when a prompt is traced.';
  return {
    object: 'luthier.prediction_trace',
    model,
    base,
    prompt_tokens: recorded.prompt_tokens,
    tuned: side(recorded.tuned),
    base_side: recorded.base && side(recorded.base),
    forced: null,
    embedding: null,
    layers: null,
    adapter: null,
    attention: null,
    nearest: null,
    why: null,
    missing: [
      { tier: 'B', reason },
      { tier: 'C', reason },
    ],
    seconds: 0,
  };
}

/** Prompt and answer, token by token, as one can read them; the layers know their texts, or else the sides do. */
export function readTexts(trace: PredictionTrace): string[] {
  const answer = trace.layers?.sequence.slice(trace.prompt_tokens.length).map((one) => one.token) ?? trace.tuned.path.map((one) => one.token);
  return [...shownTokens(trace.prompt_tokens).map((one) => one.text), ...answer.map(visible)];
}

/** Why a tier is not there; null where it is. */
export function missingReason(trace: PredictionTrace, tier: string): string | null {
  return trace.missing.find((one) => one.tier === tier)?.reason ?? null;
}

/** Place of the chosen token among all: told, or found in the list of the likeliest; null where neither knows. */
export function rankOf(step: PathStep): number | null {
  if (step.rank !== null && step.rank !== undefined) return step.rank;
  const at = step.top.findIndex((one) => same(one, step));
  return at < 0 ? null : at + 1;
}

/** Whether both have written the same before step `at`, so that their chances at it can be put side by side. */
export function sameBefore(tuned: readonly PathStep[], base: readonly PathStep[], at: number): boolean {
  if (base.length < at) return false;
  return tuned.slice(0, at).every((step, i) => same(step, base[i]!));
}

/** The base's chances of the tuned model's likeliest tokens at that step; null where the two have written different things by then. */
export function baseChances(trace: PredictionTrace, at: number): (number | null)[] | null {
  const tuned = trace.tuned.path[at];
  const base = trace.base_side?.path;
  const step = base?.[at];
  if (!tuned || !base || !step || !sameBefore(trace.tuned.path, base, at)) return null;
  return tuned.top.map((one) => step.top.find((other) => same(one, other))?.probability ?? null);
}

/** The base's probability of the very token the tuned model wrote there, after the same words; null where it was not measured. */
export function baseChance(trace: PredictionTrace, at: number): number | null {
  const step = trace.tuned.path[at];
  if (!step) return null;
  const read = trace.forced?.source === 'tuned' ? trace.forced.tokens[at] : undefined;
  if (read && read.id === step.id && read.base_logprob !== null) return Math.exp(read.base_logprob);
  const chances = baseChances(trace, at);
  const place = step.top.findIndex((one) => same(one, step));
  return (place < 0 ? null : chances?.[place]) ?? null;
}

function same(a: { id?: number | null; token: string }, b: { id?: number | null; token: string }): boolean {
  const known = typeof a.id === 'number' && typeof b.id === 'number';
  return known ? a.id === b.id : a.token === b.token;
}

/** “Salut” with 87.5 %; the base gave it 3 %. */
export function outputFinding(trace: PredictionTrace, at: number): string {
  const step = trace.tuned.path[at];
  if (!step) return 'The tuned model wrote nothing.';
  const told = `The tuned model gives ${quoted(step)} ${probability(step.probability)}`;
  const chance = baseChance(trace, at);
  if (chance !== null) return `${told}, the base ${probability(chance)}.`;
  const base = trace.base_side?.path[at];
  if (!baseChances(trace, at)) return `${told}${trace.base_side ? '; the base has written something else by then' : ''}.`;
  return `${told}; it is not among the ${base?.top.length ?? 0} that the base finds likeliest.`;
}

/** "7 tokens, each with at least 62 %; least sure was “Sa”." */
export function pathFinding(path: readonly PathStep[]): string {
  if (!path.length) return 'Nothing was written.';
  const own = path.filter((step) => !step.forced);
  if (!own.length) return `All ${path.length} tokens were chosen for the model.`;
  const least = own.reduce((low, step) => (step.probability < low.probability ? step : low));
  if (path.length === 1) return `One token, ${quoted(least)}, with ${probability(least.probability)}.`;
  return `${path.length} tokens; the model was least sure of ${quoted(least)}, with ${probability(least.probability)}.`;
}

/** "The tuning raised “Bon” most: from 1 % to 96 %. The whole answer changed by +3.1 nats." */
export function forcedFinding(tokens: readonly ForcedToken[]): string {
  const known = tokens.filter((one): one is ForcedToken & { change: number; tuned_logprob: number; base_logprob: number } => one.change !== null);
  if (!known.length) return 'Only one model read the answer, so there is nothing to compare.';
  const whole = known.reduce((sum, one) => sum + one.change, 0);
  const most = known.reduce((best, one) => (Math.abs(one.change) > Math.abs(best.change) ? one : best));
  const moved = most.change >= 0 ? 'raised' : 'lowered';
  return (
    `The tuning ${moved} “${trimmed(most.text)}” most: from ${probability(Math.exp(most.base_logprob))} to ` +
    `${probability(Math.exp(most.tuned_logprob))}. The whole answer changed by ${signed(whole)} nats.`
  );
}

/** The column that predicts the answer's first token; the last one where the answer's places were not traced. */
export function answerColumn(layers: PredictionLayers, promptTokens: number): number {
  const at = layers.positions.indexOf(promptTokens - 1);
  return at < 0 ? layers.positions.length - 1 : at;
}

/** "“Bonjour” stays on top from layer 5 of 0 to 7 on." for one column of one model's lens. */
export function lensFinding(layers: PredictionLayers, side: 'tuned' | 'base', column: number): string {
  const lens = layers[side];
  const name = side === 'tuned' ? 'Tuned' : 'Base';
  const id = lens?.top.at(-1)?.[column];
  const from = lens?.settled[column];
  if (id === undefined || from === undefined) return `${name}: no layer was read.`;
  const token = trimmed(layers.tokens[id] ?? String(id));
  if (from === layers.count - 1) return `${name}: “${token}” comes on top only in the last layer, ${from}.`;
  return `${name}: “${token}” stays on top from layer ${from} of 0 to ${layers.count - 1} on.`;
}

type Change = NonNullable<PredictionTrace['adapter']>[number];

/** Layers by modules: a grid of changes; null where a module has no adapter. What belongs to no layer stands in a row of its own. */
export function adapterGrid(changes: readonly Change[]): { layers: (number | null)[]; modules: string[]; values: (number | null)[][] } {
  const layers = [...new Set(changes.map((one) => one.layer))].sort((a, b) => (a ?? Infinity) - (b ?? Infinity));
  const modules = [...new Set(changes.map((one) => one.module))];
  const found = new Map(changes.map((one) => [`${one.layer}\n${one.module}`, one.relative_change]));
  return { layers, modules, values: layers.map((layer) => modules.map((module) => found.get(`${layer}\n${module}`) ?? null)) };
}

/** "Tuning acts most on v_proj of layer 7: its weights moved by 3.1 % of their size." */
export function adapterFinding(changes: readonly Change[]): string {
  const most = changes.reduce((best, one) => ((one.relative_change ?? -1) > (best.relative_change ?? -1) ? one : best));
  const where = most.layer === null ? most.module : `${most.module} of layer ${most.layer}`;
  return `Tuning acts most on ${where}: its weights moved by ${percent(most.relative_change, 1)} of their size.`;
}

/** Zero to one over what is there, so that small differences can be seen as shades. */
export function spreadOf(values: readonly (number | null)[]): { shades: (number | null)[]; low: number; high: number } {
  const known = values.filter((value): value is number => value !== null);
  const low = Math.min(...known);
  const high = Math.max(...known);
  return { low, high, shades: values.map((value) => (value === null ? null : high > low ? (value - low) / (high - low) : 0)) };
}

/** The step to look at first: the one after those that were chosen for the model. */
export function firstOwn(path: readonly PathStep[]): number {
  const at = path.findIndex((step) => !step.forced);
  return at < 0 ? Math.max(0, path.length - 1) : at;
}

/** The ids of a side branch: what was chosen before step `at`, and another token there. Null where an id is not known. */
export function branchIds(path: readonly PathStep[], at: number, other: { id?: number | null }): number[] | null {
  const ids = [...path.slice(0, at).map((step) => step.id), other.id];
  return ids.every((id): id is number => typeof id === 'number') ? ids : null;
}

function quoted(step: Pick<PathStep, 'token' | 'end'>): string {
  return step.end ? 'the end' : `“${trimmed(step.token)}”`;
}

/** Without the space before a word; white space alone stays as it is. */
function trimmed(token: string): string {
  return token.trim() || token;
}
