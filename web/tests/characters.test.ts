import { describe, expect, it } from 'vitest';
import { GOES_ON, runsRightToLeft, shownTokens } from '../src/lib/characters';

const byte = (value: number) => ({ text: '\ufffd', bytes: [value] });

describe('tokens as one can read them', () => {
  it('puts a character whose bytes are several tokens at the first of them', () => {
    const tokens = [{ text: ' a', bytes: [32, 97] }, byte(0xd8), byte(0xaa), byte(0xd7), byte(0xa9)];
    expect(shownTokens(tokens)).toEqual([
      { text: '·a', of: null },
      { text: 'ت', of: 'ت' },
      { text: GOES_ON, of: 'ت' },
      { text: 'ש', of: 'ש' },
      { text: GOES_ON, of: 'ש' },
    ]);
  });

  it('takes a token that ends one character and begins the next with both', () => {
    const tokens = [byte(0xd8), { text: '\ufffd\ufffd', bytes: [0xaa, 0xd8] }, byte(0xb1)];
    expect(shownTokens(tokens).map((one) => one.text)).toEqual(['تر', GOES_ON, GOES_ON]);
  });

  it('shows the bytes of what is no text, and the sign of unknown characters where no bytes are known', () => {
    expect(shownTokens([byte(0xff), { text: 'b', bytes: [98] }]).map((one) => one.text)).toEqual(['ff', 'b']);
    expect(shownTokens([{ text: '\ufffd' }]).map((one) => one.text)).toEqual(['\ufffd']);
    // A sign of unknown characters that the user wrote.
    expect(shownTokens([{ text: '\ufffd', bytes: [0xef, 0xbf, 0xbd] }])).toEqual([{ text: '\ufffd', of: null }]);
  });

  it('knows what is written from right to left', () => {
    expect(runsRightToLeft('صباح الخير')).toBe(true);
    expect(runsRightToLeft('מה שלומך? OK')).toBe(true);
    expect(runsRightToLeft('Translate: שלום please')).toBe(false);
    expect(runsRightToLeft('42 …')).toBe(false);
  });
});
