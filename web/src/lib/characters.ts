/** Tokens as one can read them: a character whose bytes lie in several tokens stands at the first of them. Pure. */

import { visible } from './format';

/** Stands for a token that holds only the rest of a character. */
export const GOES_ON = '…';
/** No character is in more tokens than it has bytes, but a run of torn ones may be longer; then its bytes are shown. */
const MOST_TORN = 8;
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/gu;
const LETTER = /\p{L}/gu;

interface Piece {
  text: string;
  bytes?: readonly number[] | null;
}

export interface Shown {
  text: string;
  /** What the token's bytes are a part of, where it is not whole. */
  of: string | null;
}

/** One for each token. Where the bytes are not known, or are no text, nothing is made up: the sign of unknown characters, or the bytes. */
export function shownTokens(tokens: readonly Piece[]): Shown[] {
  const shown: Shown[] = [];
  while (shown.length < tokens.length) {
    const from = shown.length;
    const first = tokens[from]!;
    if (!torn(first)) {
      shown.push({ text: visible(first.text), of: null });
      continue;
    }
    const bytes: number[] = [];
    let end = from;
    let whole: string | null = null;
    for (; whole === null && end < Math.min(tokens.length, from + MOST_TORN) && torn(tokens[end]!); end += 1) {
      bytes.push(...tokens[end]!.bytes!);
      whole = decoded(bytes);
    }
    if (whole === null) shown.push({ text: first.bytes!.map(hex).join(' '), of: null });
    else {
      const of = end - from > 1 ? whole : null;
      for (let i = from; i < end; i += 1) shown.push({ text: i === from ? visible(whole) : GOES_ON, of });
    }
  }
  return shown;
}

/** Whether most letters are of a script that is written from right to left. */
export function runsRightToLeft(text: string): boolean {
  return 2 * (text.match(RIGHT_TO_LEFT)?.length ?? 0) > (text.match(LETTER)?.length ?? 0);
}

export function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0');
}

function torn(token: Piece): boolean {
  return token.text.includes('\ufffd') && Boolean(token.bytes?.length);
}

function decoded(bytes: readonly number[]): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(bytes));
  } catch {
    return null;
  }
}
