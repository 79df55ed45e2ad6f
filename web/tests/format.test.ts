import { describe, expect, it } from 'vitest';
import * as f from '../src/lib/format';

/** Thin spaces as plain ones, to be read here. */
const plain = (text: string) => text.replaceAll('\u202f', ' ');

describe('numbers', () => {
  it.each([
    [0, '0'], [7, '7'], [1234, '1234'], [12_345, '12 345'], [1_234_567, '1 234 567'], [-45_000, '−45 000'], [-0.2, '0'], [null, '–'], [NaN, '–'],
  ])('count %s', (value, text) => expect(plain(f.count(value))).toBe(text));
  it('a noun in the singular and the plural', () =>
    expect([0, 1, 2].map((n) => f.counted(n, 'step')).concat(f.counted(2, 'epoch of all', 'epochs of all'))).toEqual(['0 steps', '1 step', '2 steps', '2 epochs of all']));
  it.each([
    [950, '950'], [999.4, '999'], [1000, '1.00 k'], [12_345, '12.3 k'], [999_950, '1.00 M'], [4.5e6, '4.50 M'], [7.24e9, '7.24 B'], [3e12, '3.00 T'],
  ])('short %s', (value, text) => expect(plain(f.short(value))).toBe(text));
  it.each([
    [1.2345, '1.23'], [0.35, '0.350'], [123.4, '123'], [0.0001, '1 × 10⁻⁴'], [0, '0.000'], [-0.5, '−0.500'], [NaN, 'not a number'], [Infinity, 'infinite'], [null, '–'],
  ])('loss %s', (value, text) => expect(plain(f.loss(value))).toBe(text));
  it.each([
    [0.5, 0, '50 %'], [0.075, 1, '7.5 %'], [0.9999, 0, '99 %'], [1, 0, '100 %'], [0.0001, 0, '< 1 %'], [0, 0, '0 %'], [null, 0, '–'],
  ])('percent %s', (value, decimals, text) => expect(plain(f.percent(value, decimals))).toBe(text));
  it.each([[0.25, '25.0 %'], [0.00001, '1 × 10⁻⁵'], [1, '100.0 %'], [0.99999, '99.9 %']])('probability %s', (value, text) =>
    expect(plain(f.probability(value))).toBe(text));
  it.each([[0.00015, '1.5 × 10⁻⁴'], [1e-3, '0.00100'], [0.0123, '0.0123'], [0, '0.00'], [3.14159, '3.14'], [250, '250'], [54_321, '54 321'], [2e8, '2 × 10⁸']])('significant %s', (value, text) =>
    expect(plain(f.significant(value))).toBe(text));
  it('a sign', () => expect([0.5, -0.5, 0].map((v) => f.signed(v))).toEqual(['+0.500', '−0.500', '0.000']));
});

describe('times and sizes', () => {
  it.each([
    [0, '0 s'], [0.0002, '< 1 ms'], [0.4, '400 ms'], [0.9999, '1.0 s'], [3.25, '3.3 s'], [12.3, '12 s'], [59.7, '1 min'], [200, '3 min 20 s'],
    [3600, '1 h'], [7500, '2 h 5 min'], [273_600, '3 d 4 h'], [-1, '–'], [null, '–'],
  ])('duration %s', (value, text) => expect(plain(f.duration(value))).toBe(text));
  it.each([[3, 'a few seconds'], [42, 'about 45 s'], [130, 'about 2 min'], [7200, 'about 2.0 h'], [200_000, 'about 2.3 d'], [null, '–']])('about %s', (value, text) =>
    expect(plain(f.about(value))).toBe(text));
  it.each([[0, '0 B'], [999, '999 B'], [1000, '1.00 kB'], [999_600, '1.00 MB'], [4_096_000, '4.10 MB'], [3e12, '3.00 TB'], [null, '–']])('bytes %s', (value, text) =>
    expect(plain(f.bytes(value))).toBe(text));
  it('how long ago', () => {
    const now = 1_700_000_000;
    expect([now - 5, now - 300, now - 7200, now - 3 * 86_400].map((at) => plain(f.ago(at, now)))).toEqual(['just now', '5 min ago', '2 h ago', '3 d ago']);
    expect(f.ago(now - 30 * 86_400, now)).toMatch(/^2023-10-1\d$/);
  });
  it('a moment and a clock in the reader’s zone', () => {
    const at = new Date(2026, 10, 6, 9, 5, 7).getTime() / 1000;
    expect([f.moment(at), f.clock(at)]).toEqual(['2026-11-06 09:05', '09:05:07']);
  });
});

describe('texts', () => {
  it('cuts a long name in the middle', () => expect(f.middle('ft:gpt-4o-mini-2024-07-18:luthier:demo:AbCdEf12', 21)).toBe('ft:gpt-4o-…o:AbCdEf12'));
  it('shows what is invisible in a token', () => expect([' a', '\n', ''].map(f.visible)).toEqual(['·a', '⏎', '∅']));
});
