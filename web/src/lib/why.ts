/** What a prediction trace says of the reasons: read with care, because parts may be absent. Pure; invents nothing. */

import type { PredictionTrace } from '../api/types';

export interface Why {
  /** Log-probabilities in nats. */
  shifted: { text: string; tuned: number | null; base: number | null; change: number }[];
  /** null: at no layer; undefined: not measured. */
  layers: { text: string; tuned: number | null; base: number | null | undefined }[];
  nearest: { line: number; similarity: number; prompt: string; answer: string }[];
}

interface Told {
  most_shifted?: { text: string; tuned_logprob: number | null; base_logprob: number | null; change: number | null }[];
  first_layers?: { text: string; tuned_layer: number | null; base_layer?: number | null }[];
}

export function whyOf(trace: PredictionTrace): Why {
  const told = (trace.why ?? {}) as Told;
  const hasBase = trace.base !== null && trace.base_side !== null;
  return {
    shifted: (told.most_shifted ?? []).flatMap(({ text, tuned_logprob, base_logprob, change }) =>
      change === null ? [] : [{ text, tuned: tuned_logprob, base: base_logprob, change }],
    ),
    layers: (told.first_layers ?? []).map(({ text, tuned_layer, base_layer }) => ({ text, tuned: tuned_layer, base: hasBase ? base_layer : undefined })),
    nearest: (trace.nearest ?? []) as unknown as Why['nearest'],
  };
}
