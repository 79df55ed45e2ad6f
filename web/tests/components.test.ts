// @vitest-environment jsdom
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
});
