import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { TraceEvent } from '../src/api/trace';
import { apply, emptyView, viewOf } from '../src/lib/reducer';
import { fixed, wholePercent } from '../src/lib/python';

const GOLDEN = join(import.meta.dirname, '../../tests/golden/trace');
const names = readdirSync(GOLDEN)
  .filter((name) => name.endsWith('.jsonl'))
  .map((name) => name.replace('.jsonl', ''));
const eventsOf = (name: string): TraceEvent[] =>
  readFileSync(join(GOLDEN, `${name}.jsonl`), 'utf-8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as TraceEvent);
const viewFile = (name: string): unknown => JSON.parse(readFileSync(join(GOLDEN, `${name}.view.json`), 'utf-8'));

describe('the reducer beside the Python one', () => {
  it('has golden logs to be held to', () => expect(names.length).toBeGreaterThanOrEqual(8));

  it.each(names)('%s: the same view, every observation letter for letter', (name) => {
    expect(viewOf(eventsOf(name))).toEqual(viewFile(name));
  });

  it.each(names)('%s: event by event it comes to the same', (name) => {
    let view = emptyView();
    for (const event of eventsOf(name)) view = apply(view, [event]);
    expect(view).toEqual(viewFile(name));
  });

  it('cut anywhere into two pages, with events told twice, it comes to the same', () => {
    const events = eventsOf('whole_run');
    for (let cut = 0; cut < events.length; cut += 1) {
      const view = apply(viewOf(events.slice(0, cut)), events.slice(Math.max(0, cut - 3)));
      expect(view).toEqual(viewFile('whole_run'));
    }
  });

  it('changes nothing of the view it was given', () => {
    const events = eventsOf('spikes');
    const half = viewOf(events.slice(0, 12));
    const before = structuredClone(half);
    apply(half, events);
    expect(half).toEqual(before);
  });

  it('begins with nothing invented', () => {
    const { stages, ...rest } = emptyView();
    expect(stages.map((stage) => stage.status)).toEqual(Array(5).fill('waiting'));
    expect(Object.values(rest).every((value) => !value || (Array.isArray(value) && value.length === 0))).toBe(true);
  });

  it('ignores an event of a newer version', () => {
    const [first] = eventsOf('whole_run');
    const strange = { ...first!, id: 2, type: 'SomethingNew', data: {} } as unknown as TraceEvent;
    expect(apply(viewOf([first!]), [strange])).toEqual({ ...viewOf([first!]), last_id: 2 });
  });
});

describe('numbers as Python writes them', () => {
  // Left: what `f"{value:.Nf}"` of CPython gives.
  it.each([
    ['0.12', 0.125, 2],
    ['0.38', 0.375, 2],
    ['2.67', 2.675, 2],
    ['-0.00', -0.001, 2],
    ['2', 2.5, 0],
    ['4', 3.5, 0],
    ['0', 0.5, 0],
    ['1000000.0', 1e6, 1],
    ['nan', NaN, 2],
    ['-inf', -Infinity, 2],
  ])('%s', (text, value, decimals) => expect(fixed(value, decimals)).toBe(text));
  it('per cent', () => expect([0.505, 0.625, 0.885, 1].map(wholePercent)).toEqual(['50%', '62%', '88%', '100%']));
});
