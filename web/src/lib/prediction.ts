/** A prediction's trace as the view draws it: what the run recorded and what the server traced, in one form; findings in words. Pure. */

import type { PathStep, PredictionSide, PredictionTrace, RecordedPrediction, TokenPart } from '../api/types';
import { percent, probability, signed } from './format';

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
    adapter: [],
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

function same(a: { id?: number | null; token: string }, b: { id?: number | null; token: string }): boolean {
  const known = typeof a.id === 'number' && typeof b.id === 'number';
  return known ? a.id === b.id : a.token === b.token;
}

/** “Salut” with 87.5 %; the base gave it 3 %. */
export function outputFinding(trace: PredictionTrace, at: number): string {
  const step = trace.tuned.path[at];
  if (!step) return 'The tuned model wrote nothing.';
  const told = `The tuned model gives ${quoted(step)} ${probability(step.probability)}`;
  const chances = baseChances(trace, at);
  const base = trace.base_side?.path[at];
  if (!chances) return `${told}${trace.base_side ? '; the base has written something else by then' : ''}.`;
  const place = step.top.findIndex((one) => same(one, step));
  const chance = place < 0 ? null : chances[place];
  if (typeof chance === 'number') return `${told}, the base ${probability(chance)}.`;
  return `${told}; it is not among the ${base?.top.length ?? 0} that the base finds likeliest.`;
}

/** "7 tokens, each with at least 62 %; least sure was “Sa”." */
export function pathFinding(path: readonly PathStep[]): string {
  if (!path.length) return 'Nothing was written.';
  const least = path.reduce((low, step) => (step.probability < low.probability ? step : low));
  if (path.length === 1) return `One token, ${quoted(least)}, with ${probability(least.probability)}.`;
  return `${path.length} tokens; the model was least sure of ${quoted(least)}, with ${probability(least.probability)}.`;
}

export interface ForcedToken {
  id?: number;
  text: string;
  tuned_logprob: number;
  base_logprob: number;
  change: number;
}

/** "The tuning made “Bon” most likelier: from 1 % to 96 %." */
export function forcedFinding(tokens: readonly ForcedToken[]): string {
  if (!tokens.length) return 'There is no answer to compare.';
  const whole = tokens.reduce((sum, one) => sum + one.change, 0);
  const most = tokens.reduce((best, one) => (Math.abs(one.change) > Math.abs(best.change) ? one : best));
  const moved = most.change >= 0 ? 'raised' : 'lowered';
  return (
    `The tuning ${moved} “${most.text.trim() || most.text}” most: from ${probability(Math.exp(most.base_logprob))} to ` +
    `${probability(Math.exp(most.tuned_logprob))}. The whole answer changed by ${signed(whole)} nats.`
  );
}

export interface LensCell {
  id?: number | null;
  token: string;
  probability: number;
}

/** The first row from which on the last row's token stays on top, for one position; null where there are no rows. */
export function settlesAt(grid: readonly (readonly (LensCell | null)[])[], position: number): number | null {
  const final = grid.at(-1)?.[position];
  if (!final) return null;
  let first = grid.length - 1;
  while (first > 0 && grid[first - 1]![position] && same(grid[first - 1]![position]!, final)) first -= 1;
  return first;
}

/** "“Bonjour” is on top from layer 5 of 8 on." of the first position; with the base's, where it is known. */
export function lensFinding(grid: readonly (readonly (LensCell | null)[])[], position: number, name: (row: number) => string): string {
  const at = settlesAt(grid, position);
  const final = grid.at(-1)?.[position];
  if (at === null || !final) return 'No layer was read.';
  if (at === grid.length - 1) return `“${final.token.trim() || final.token}” comes on top only in the last layer.`;
  return `“${final.token.trim() || final.token}” is on top from ${name(at)} on, of ${grid.length}.`;
}

export interface AdapterChange {
  layer: number;
  module: string;
  relative_change: number;
}

/** Layers by modules: a grid of changes; null where a module has no adapter. */
export function adapterGrid(changes: readonly AdapterChange[]): { layers: number[]; modules: string[]; values: (number | null)[][] } {
  const layers = [...new Set(changes.map((one) => one.layer))].sort((a, b) => a - b);
  const modules = [...new Set(changes.map((one) => one.module))];
  const found = new Map(changes.map((one) => [`${one.layer}\n${one.module}`, one.relative_change]));
  return { layers, modules, values: layers.map((layer) => modules.map((module) => found.get(`${layer}\n${module}`) ?? null)) };
}

/** "Tuning acts most on v_proj of layer 7: 3.1 % of the weight's length." */
export function adapterFinding(changes: readonly AdapterChange[]): string {
  const most = changes.reduce((best, one) => (one.relative_change > best.relative_change ? one : best));
  return `Tuning acts most on ${most.module} of layer ${most.layer}: its weights moved by ${percent(most.relative_change, 1)} of their size.`;
}

/** Zero to one over what is there, so that small differences can be seen as shades. */
export function spreadOf(values: readonly (number | null)[]): { shades: (number | null)[]; low: number; high: number } {
  const known = values.filter((value): value is number => value !== null);
  const low = Math.min(...known);
  const high = Math.max(...known);
  return { low, high, shades: values.map((value) => (value === null ? null : high > low ? (value - low) / (high - low) : 0)) };
}

/** The tokens of prompt and answer, as one strip. */
export function wholeStrip(trace: PredictionTrace): TokenPart[] {
  return [...trace.prompt_tokens, ...trace.tuned.path.map((step) => ({ text: step.token, kind: 'trained', role: 'assistant', id: step.id ?? null }))];
}

/** The ids of a side branch: what was chosen before step `at`, and another token there. Null where an id is not known. */
export function branchIds(path: readonly PathStep[], at: number, other: { id?: number | null }): number[] | null {
  const ids = [...path.slice(0, at).map((step) => step.id), other.id];
  return ids.every((id): id is number => typeof id === 'number') ? ids : null;
}

function quoted(step: { token: string; end?: boolean }): string {
  return step.end ? 'the end' : `“${step.token.trim() || step.token}”`;
}

