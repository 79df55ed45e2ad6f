/** Numbers written as Python writes them, so that a sentence made here equals the one made there, letter for letter. Pure. */

/**
 * `f"{value:.{decimals}f}"`. Both languages round the exact binary value, a tie to... nothing: where the value lies exactly in the middle
 * (0.125), Python takes the even digit and JavaScript's toFixed the larger one; that is mended here.
 */
export function fixed(value: number, decimals: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  // toFixed is exact below 1e21; ties are only possible where the rest in the next digits is exactly a half.
  const size = Math.abs(value);
  let text = size.toFixed(decimals);
  if (isTie(size, decimals) && Number(text.at(-1)) % 2 === 1) text = below(text);
  return value < 0 || Object.is(value, -0) ? `-${text}` : text;
}

/** `f"{value:.0%}"` */
export function wholePercent(value: number): string {
  return `${fixed(value * 100, 0)}%`;
}

/** True where the value stands exactly between two numbers of so many decimals. */
function isTie(size: number, decimals: number): boolean {
  // Doubles have at most 1074 decimals; a tie has its last one, a 5, right behind the shown ones.
  const long = exactDecimals(size);
  const fraction = long.split('.')[1] ?? '';
  return fraction.length === decimals + 1 && fraction.endsWith('5');
}

/** The exact decimal digits of a double, as far as toFixed goes (100): ties end far earlier. */
function exactDecimals(size: number): string {
  return size >= 1e21 ? String(size) : size.toFixed(100).replace(/0+$/, '');
}

/** The number one unit of the last digit below, written alike; the last digit is odd, so nothing is borrowed. */
function below(text: string): string {
  return text.slice(0, -1) + String(Number(text.at(-1)) - 1);
}
