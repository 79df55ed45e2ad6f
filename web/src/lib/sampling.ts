/** What temperature and top-p make of the likeliest tokens of one step. Pure. */

export interface Choice {
  id?: number | null;
  token: string;
  probability: number;
  logprob?: number | null;
}

export interface Drawn<T extends Choice> {
  choice: T;
  /** Chance to be drawn; 0 where top-p cuts it off. */
  chance: number;
  cut: boolean;
}

/** Logarithm of a choice's probability; of the answer's own where it has one, for small ones are rounded away in the other. */
function logOf(choice: Choice): number {
  return choice.logprob ?? Math.log(Math.max(choice.probability, 1e-45));
}

/**
 * The choices under a temperature (above 0) and a top-p (0 to 1, 1 for all).
 *
 * At temperature 1 and top-p 1 these are the model's own probabilities. Otherwise only what is known can be shared out: the chances are
 * shares among the given choices, for nobody sent the rest of the vocabulary.
 */
export function drawn<T extends Choice>(choices: readonly T[], temperature: number, topP: number): Drawn<T>[] {
  if (temperature === 1 && topP >= 1) return choices.map((choice) => ({ choice, chance: choice.probability, cut: false }));
  const logs = choices.map((choice) => logOf(choice) / temperature);
  const most = Math.max(...logs);
  const weights = logs.map((log) => Math.exp(log - most));
  const whole = sum(weights);
  const order = weights.map((weight, i) => ({ share: weight / whole, i })).sort((a, b) => b.share - a.share || a.i - b.i);
  const kept = new Set<number>();
  let reached = 0;
  for (const one of order) {
    // The one that reaches top-p is still drawn from.
    if (topP < 1 && reached >= topP - 1e-12) break;
    kept.add(one.i);
    reached += one.share;
  }
  return choices.map((choice, i) => {
    const share = weights[i]! / whole;
    return kept.has(i) ? { choice, chance: share / reached, cut: false } : { choice, chance: 0, cut: true };
  });
}

/** Probability that the given choices have together at temperature 1. */
export function covered(choices: readonly Choice[]): number {
  return Math.min(1, sum(choices.map((choice) => choice.probability)));
}

/** Entropy of the chances, nats; of what is drawn from only. */
export function entropyOf(chances: readonly number[]): number {
  return -sum(chances.filter((chance) => chance > 0).map((chance) => chance * Math.log(chance)));
}

function sum(values: readonly number[]): number {
  return values.reduce((whole, value) => whole + value, 0);
}
