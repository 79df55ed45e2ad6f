import { describe, expect, it } from 'vitest';
import type { PredictionTrace } from '../src/api/types';
import {
  adapterFinding,
  adapterGrid,
  answerColumn,
  baseChance,
  baseChances,
  branchIds,
  forcedFinding,
  lensFinding,
  missingReason,
  outputFinding,
  firstOwn,
  pathFinding,
  rankOf,
  recordedTrace,
  sameBefore,
  spreadOf,
} from '../src/lib/prediction';
import { covered, drawn, entropyOf } from '../src/lib/sampling';
import { predictionTrace } from './fixtures/prediction.mjs';
import real from './fixtures/prediction.real.json';
import { savedJob } from './fixtures/saved.mjs';

const plain = (text: string) => text.replaceAll('\u202f', ' ');
const trace = predictionTrace();

describe('drawing from the likeliest tokens', () => {
  const choices = [0.5, 0.25, 0.125].map((probability, i) => ({ token: 'abc'[i]!, probability }));
  it('leaves the model’s own probabilities alone at 1 and 1', () => {
    expect(drawn(choices, 1, 1).map((one) => one.chance)).toEqual([0.5, 0.25, 0.125]);
    expect(covered(choices)).toBe(0.875);
  });
  it('sums to one under any temperature, and sharpens as it falls', () => {
    for (const temperature of [0.1, 0.5, 1.5, 2]) {
      const chances = drawn(choices, temperature, 1).map((one) => one.chance);
      expect(chances.reduce((sum, one) => sum + one, 0)).toBeCloseTo(1, 12);
    }
    expect(drawn(choices, 0.5, 1)[0]!.chance).toBeCloseTo(0.25 / (0.25 + 0.0625 + 0.015625), 12);
    expect(entropyOf(drawn(choices, 0.2, 1).map((one) => one.chance))).toBeLessThan(entropyOf(drawn(choices, 2, 1).map((one) => one.chance)));
  });
  it('keeps the token that reaches top-p and cuts the rest off', () => {
    const under = drawn(choices, 1, 0.6);
    expect(under.map((one) => one.cut)).toEqual([false, false, true]);
    expect(under[0]!.chance + under[1]!.chance).toBeCloseTo(1, 12);
    expect(drawn(choices, 1, 0.05).map((one) => one.chance)).toEqual([1, 0, 0]);
  });
  it('does not lose tokens whose probability was rounded away', () => {
    const tiny = [{ token: 'a', probability: 1, logprob: 0 }, { token: 'b', probability: 0, logprob: -200 }];
    expect(drawn(tiny, 2, 1)[1]!.chance).toBeCloseTo(Math.exp(-100), 50);
  });
});

describe('a prediction', () => {
  it('puts the base’s chances beside only where both have written the same', () => {
    expect(baseChances(trace, 0)).toEqual([0.125, 0.75, 0.03125]);
    expect(baseChances(trace, 1)).toBeNull();
    expect(sameBefore(trace.tuned.path, trace.base_side!.path, 1)).toBe(false);
    expect(plain(outputFinding(trace, 0))).toBe('The tuned model gives “Salut” 87.5 %, the base 12.5 %.');
    expect(plain(outputFinding(trace, 1))).toBe('The tuned model gives the end 93.8 %, the base 93.8 %.');
    expect(baseChance(trace, 1)).toBeCloseTo(0.9375, 12);
    expect(baseChance({ ...trace, forced: null }, 1)).toBeNull();
    expect(plain(outputFinding({ ...trace, forced: null }, 1))).toBe('The tuned model gives the end 93.8 %; the base has written something else by then.');
  });
  it('takes what the run recorded and says which tiers that lacks', () => {
    const recorded = recordedTrace(savedJob().view.prediction, 'ft:x', 'mini')!;
    expect(recorded.tuned.answer).toBe('Salut');
    expect(recorded.layers).toBeNull();
    expect(missingReason(recorded, 'B')).toContain('tokens and probabilities only');
    expect(missingReason(trace, 'B')).toBeNull();
    expect(rankOf(recorded.tuned.path[0]!)).toBe(1);
    expect(recordedTrace(null, 'a', 'b')).toBeNull();
  });
  it('finds the layer from which the answer stays on top', () => {
    const layers = trace.layers!;
    const column = answerColumn(layers, trace.prompt_tokens.length);
    expect(column).toBe(1);
    expect(lensFinding(layers, 'tuned', column)).toBe('Tuned: “Salut” stays on top from layer 1 of 0 to 2 on.');
    expect(lensFinding(layers, 'tuned', 0)).toBe('Tuned: “<|assistant|>” comes on top only in the last layer, 2.');
    expect(lensFinding({ ...layers, base: null }, 'base', 0)).toBe('Base: no layer was read.');
  });
  it('says what the tuning changed, and where the model was least sure', () => {
    expect(plain(forcedFinding(trace.forced!.tokens))).toBe('The tuning raised “Salut” most: from 12.5 % to 87.5 %. The whole answer changed by +1.95 nats.');
    expect(plain(pathFinding(trace.tuned.path))).toBe('2 tokens; the model was least sure of “Salut”, with 87.5 %.');
  });
  it('lays the adapter’s changes out by layer and matrix, with holes where there is none', () => {
    expect(adapterGrid(trace.adapter!)).toEqual({ layers: [1, 2], modules: ['q_proj', 'v_proj'], values: [[0.0125, 0.03125], [0.021, null]] });
    expect(plain(adapterFinding(trace.adapter!))).toContain('v_proj of layer 1: its weights moved by 3.1 %');
    expect(adapterGrid([{ layer: null, module: 'head', relative_change: 0.5 }]).layers).toEqual([null]);
    expect(spreadOf([2, null, 4]).shades).toEqual([0, null, 1]);
    expect(spreadOf([2, 2]).shades).toEqual([0, 0]);
  });
  it('branches off only where the ids are known', () => {
    expect(branchIds(trace.tuned.path, 1, { id: 53 })).toEqual([50, 53]);
    const branched = trace.tuned.path.map((step, i) => ({ ...step, forced: i === 0 }));
    expect(firstOwn(branched)).toBe(1);
    expect(plain(pathFinding(branched))).toBe('2 tokens; the model was least sure of the end, with 93.8 %.');
    expect(branchIds([{ token: 'a', probability: 1, top: [] }], 1, { id: 53 })).toBeNull();
  });
});

describe('a reply of a real server', () => {
  const reply = real as unknown as PredictionTrace;
  it('agrees with itself: the lens ends in what was written, probabilities are of the whole, the base is read where it was measured', () => {
    const layers = reply.layers!;
    reply.tuned.path.forEach((step, i) => {
      expect(covered(step.top)).toBeLessThanOrEqual(1);
      expect(rankOf(step)).toBe(1);
      const column = layers.positions.indexOf(reply.prompt_tokens.length - 1 + i);
      if (column >= 0) expect(layers.tuned.top.at(-1)![column]).toBe(step.id);
      expect(baseChance(reply, i)).toBeCloseTo(Math.exp(reply.forced!.tokens[i]!.base_logprob!), 9);
    });
    expect(lensFinding(layers, 'tuned', answerColumn(layers, reply.prompt_tokens.length))).toContain('Tuned: “');
    expect(forcedFinding(reply.forced!.tokens)).toContain('The tuning ');
  });
});
