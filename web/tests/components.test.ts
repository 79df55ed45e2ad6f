// @vitest-environment jsdom
import { flushSync } from 'svelte';
import { afterEach, describe, expect, it } from 'vitest';
import Status from '../src/components/Status.svelte';
import Table from '../src/components/Table.svelte';
import Tokens from '../src/components/Tokens.svelte';
import { clear, draw, goldenJob } from './support/page';

afterEach(clear);

describe('shared parts', () => {
  it('says a status in a word, not only in a colour', () => {
    expect(draw(Status, { status: 'failed' }).textContent).toContain('Failed');
  });

  it('draws a text of a user as text', () => {
    const page = draw(Table, { caption: 'rows', columns: [{ label: 'prompt' }], rows: [['<img src=x onerror=alert(1)>']] });
    expect(page.querySelector('img')).toBeNull();
    expect(page.textContent).toContain('<img src=x onerror=alert(1)>');
  });

  it('shows the tokens of a real sample with their kinds, and no more at once than can be drawn', () => {
    const tokens = goldenJob().view.stages[1]!.report!.sample.tokens as { text: string; kind: string }[];
    const page = draw(Tokens, { tokens, label: 'sample' });
    expect(page.querySelectorAll('.strip .token')).toHaveLength(tokens.length);
    expect(page.querySelectorAll('.strip .trained')).toHaveLength(tokens.filter((token) => token.kind === 'trained').length);
    clear();
    const long = draw(Tokens, { tokens: Array.from({ length: 10_000 }, () => ({ text: 'a', kind: 'context' })), label: 'long' });
    expect(long.querySelectorAll('.strip .token')).toHaveLength(400);
    expect(long.textContent).toContain('Show 2000 more tokens of 10000');
  });

  it('is one stop of the keyboard, and arrows read its tokens', () => {
    const tokens = ['Hel', 'lo'].map((text, id) => ({ text, kind: 'context', id }));
    const page = draw(Tokens, { tokens, label: 'two' });
    const strip = page.querySelector<HTMLElement>('.strip')!;
    expect([...page.querySelectorAll('[tabindex="0"]')]).toEqual([strip]);
    const press = (key: string) => {
      strip.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
      flushSync();
      return page.querySelector('[role="status"]')?.textContent;
    };
    expect(press('ArrowRight')).toContain('Token 1 of 2: "Hel", id 0');
    expect(press('ArrowRight')).toContain('Token 2 of 2: "lo", id 1');
    expect(press('ArrowRight')).toContain('Token 2 of 2');
    expect(press('Home')).toContain('Token 1 of 2');
  });

  it('makes one of the tokens that can be chosen the stop', () => {
    const tokens = ['a', 'b', 'c'].map((text) => ({ text, kind: 'context' }));
    const page = draw(Tokens, { tokens, label: 'three', picked: 1, onpick: () => {} });
    expect([...page.querySelectorAll('[tabindex="0"]')].map((one) => one.textContent)).toEqual(['b']);
  });

  it('writes a row of Arabic from the right, each character whole', () => {
    const bytes = [...new TextEncoder().encode('تر')].map((byte) => ({ text: '\ufffd', kind: 'context', bytes: [byte] }));
    const page = draw(Tokens, { tokens: [{ text: '<|user|>', kind: 'special' }, ...bytes], label: 'arabic' });
    expect(page.querySelector('.strip')!.getAttribute('dir')).toBe('rtl');
    expect([...page.querySelectorAll('.strip .token')].map((one) => one.textContent)).toEqual(['<|user|>', 'ت', '…', 'ر', '…']);
    expect(page.querySelectorAll<HTMLElement>('.strip .token')[2]!.title).toContain('a part of "ت"');
  });
});
