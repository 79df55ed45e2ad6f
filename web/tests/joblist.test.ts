import { describe, expect, it } from 'vitest';
import type { JobRow, List } from '../src/api/types';
import { inSight, JobList, NEWEST, type JobQuery } from '../src/lib/joblist.svelte';
import { progressOf, stepsOf, waitOf } from '../src/lib/jobwords';
import type { Options } from '../src/lib/api';
import { savedJob } from './fixtures/saved.mjs';

const row = (id: string, parts: Partial<JobRow> = {}): JobRow => ({ ...savedJob().row, id, ...parts });
const ALL: JobQuery = { search: '', status: '', method: '', sort: NEWEST };

/** Answers pages from these rows; `wait` holds the answers back. */
function server(rows: JobRow[], wait: Promise<void> = Promise.resolve()) {
  const asked: Options['query'][] = [];
  return {
    asked,
    get: async <T>(_: string, options: Options = {}): Promise<T> => {
      asked.push(options.query);
      await wait;
      const from = options.query?.after ? rows.findIndex((r) => r.id === options.query!.after) + 1 : 0;
      const limit = Number(options.query?.limit);
      const page: List<JobRow> = { object: 'list', data: rows.slice(from, from + limit), has_more: from + limit < rows.length, total: rows.length };
      return page as T;
    },
  };
}

describe('the list of jobs', () => {
  it('is read to its end, page by page', async () => {
    const rows = Array.from({ length: 1203 }, (_, i) => row(`j${i}`));
    const from = server(rows);
    const list = new JobList(from);
    await list.read(ALL);
    expect(list.rows).toEqual(rows);
    expect(list.total).toBe(1203);
    expect(from.asked.map((query) => query!.after)).toEqual([null, 'j499', 'j999']);
  });

  it('does not become shorter while it is read again, but shows another list at once', async () => {
    const rows = Array.from({ length: 1203 }, (_, i) => row(`j${i}`));
    const from = server(rows);
    const seen: number[] = [];
    const list: JobList = new JobList({ get: (path, options) => (seen.push(list.rows.length), from.get(path, options)) });
    await list.read(ALL);
    await list.read(ALL);
    expect(seen).toEqual([0, 500, 1000, 1203, 1203, 1203]);
    await list.read({ ...ALL, search: 'j' });
    expect(seen.slice(6)).toEqual([1203, 500, 1000]);
  });

  it('forgets an older reading that comes in late', async () => {
    let free!: () => void;
    const slow = server([row('old')], new Promise((done) => (free = done)));
    const list = new JobList({ get: (path, options) => (options?.query?.search === 'x' ? server([row('new')]).get(path, options) : slow.get(path, options)) });
    const first = list.read(ALL);
    await list.read({ ...ALL, search: 'x' });
    free();
    await first;
    expect(list.rows.map((r) => r.id)).toEqual(['new']);
  });

  it('says why it could not be read', async () => {
    const list = new JobList({ get: () => Promise.reject(new Error('no server')) });
    await expect(list.read(ALL)).rejects.toThrow('no server');
    expect(list.trouble?.message).toBe('no server');
  });

  it('takes a changed row in its place and a new one on top', async () => {
    const list = new JobList(server([row('a'), row('b')]));
    await list.read(ALL);
    expect(list.take(row('b', { step: 9 }))).toBe(false);
    expect(list.rows[1]!.step).toBe(9);
    expect(list.take(row('c'))).toBe(false);
    expect(list.rows.map((r) => r.id)).toEqual(['c', 'a', 'b']);
    expect(list.total).toBe(3);
  });

  it('asks anew where only the server knows the place', async () => {
    const list = new JobList(server([row('a', { status: 'running' })]));
    await list.read({ ...ALL, status: 'running' });
    expect(list.take(row('a', { status: 'succeeded' }))).toBe(true);
    expect(list.take(row('z'))).toBe(true);
  });
});

describe('what is in sight', () => {
  it('is a window of the rows, whatever their number', () => {
    expect(inSight(5000, 50, 0, 800)).toEqual([0, 24]);
    expect(inSight(5000, 50, 100_000, 800)).toEqual([1992, 2024]);
    expect(inSight(3, 50, 0, 800)).toEqual([0, 3]);
    expect(inSight(0, 50, 0, 800)).toEqual([0, 0]);
    // The list became shorter than where one had scrolled to.
    expect(inSight(10, 50, 90_000, 800)).toEqual([0, 10]);
  });
});

describe('a job in words', () => {
  const plain = (text: string) => text.replaceAll('\u202f', ' ');
  it.each([
    [{ status: 'validating_files', queue_place: null }, 'its files are being read'],
    [{ status: 'validating_files', queue_place: 2 }, 'waiting for the worker'],
    [{ status: 'queued', queue_place: 1 }, 'next in the queue'],
    [{ status: 'queued', queue_place: 4 }, 'place 4 in the queue'],
    [{ status: 'queued', queue_place: null }, 'waits for a trainer'],
    [{ status: 'running', eta_seconds: 130 }, 'about 2 min left'],
    [{ status: 'running', eta_seconds: null }, 'no estimate yet'],
    [{ status: 'running', eta_seconds: null, queue_place: 1 }, 'waiting for the worker'],
    [{ status: 'succeeded', started_at: 100, finished_at: 165 }, 'took 1 min 5 s'],
    [{ status: 'failed', started_at: null, finished_at: 100 }, 'ended 1970-01-01'],
    [{ status: 'paused', step: 12 }, 'stands at step 12'],
  ] as [Partial<JobRow>, string][])('%o', (parts, text) => expect(plain(waitOf(row('a', parts)))).toBe(text));
  it('knows how far it is only where a step was done', () => {
    expect(progressOf(row('a', { status: 'running', step: 50, total_steps: 200 }))).toBe(0.25);
    expect(progressOf(row('a', { status: 'queued', step: null, total_steps: null }))).toBeNull();
    expect(stepsOf(row('a', { step: 50, total_steps: 200, epoch: 1, total_epochs: 4 }))).toBe('step 50 of 200, epoch 1 of 4');
  });
});
