import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

/** WCAG 2.2, 1.4.3 and 1.4.11, computed from tokens.css in each theme. */

const css = readFileSync(join(import.meta.dirname, '../src/styles/tokens.css'), 'utf-8');
const [plain, contrast] = css.split("[data-contrast='more']") as [string, string];

function colours(text: string, dark: boolean): Record<string, string> {
  const found = [...text.matchAll(/--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)/g)];
  return Object.fromEntries(found.map(([, name, light, night]) => [name!, (dark ? night : light)!]));
}

function luminance(colour: string): number {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function ratio(a: string, b: string): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

const GROUNDS = ['ground', 'surface', 'sunken', 'raised'];
const RUNS = Array.from({ length: 10 }, (_, i) => `run-${i + 1}`);
const TEXT: [string, string[]][] = [
  ['text', [...GROUNDS, 'accent-soft', 'base-soft', 'token-trained', 'token-context', 'token-special', 'token-other', 'bad-soft', 'warn-soft', 'info-soft', 'good-soft']],
  ['muted', GROUNDS],
  ['accent', [...GROUNDS, 'accent-soft']],
  ['accent-ink', ['accent']],
  ['base', GROUNDS],
  ['good', ['good-soft', 'surface']],
  ['warn', ['warn-soft', 'surface']],
  ['bad', ['bad-soft', 'surface']],
  ['info', ['info-soft', 'surface']],
];
const SHAPES: [string, string[]][] = [['line-strong', ['surface', 'ground']], ['focus', GROUNDS], ...RUNS.map((run): [string, string[]] => [run, ['surface']])];

describe.each([
  ['light', colours(plain, false)],
  ['dark', colours(plain, true)],
  ['high contrast, light', { ...colours(plain, false), ...colours(contrast, false) }],
  ['high contrast, dark', { ...colours(plain, true), ...colours(contrast, true) }],
])('%s', (_, tokens) => {
  const weak = (pairs: [string, string[]][], least: number) =>
    pairs.flatMap(([front, backs]) => backs.map((back): [string, number] => [`${front} on ${back}`, ratio(tokens[front]!, tokens[back]!)])).filter(([, r]) => r < least);
  it('text reaches 4.5', () => expect(weak(TEXT, 4.5)).toEqual([]));
  it('lines, marks and curves reach 3', () => expect(weak(SHAPES, 3)).toEqual([]));
});
