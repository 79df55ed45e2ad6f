// @vitest-environment jsdom
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { TraceEvent } from '../src/api/trace';
import type { JobRow, JobView, Metrics } from '../src/api/types';
import { ApiError } from '../src/lib/api';
import { LiveSource } from '../src/lib/live.svelte';
import { noMetrics } from '../src/lib/metrics';
import { viewOf } from '../src/lib/reducer';
import { savedJob } from './fixtures/saved.mjs';

/** The server and its stream, held by hand: what it would answer now, and what it tells. */
const world = vi.hoisted(() => ({
  answers: {} as Record<string, () => unknown>,
  asked: [] as string[],
  followed: [] as [string | null, number | undefined][],
  trace: null as ((event: unknown) => void) | null,
  row: null as ((row: unknown) => void) | null,
  poll: null as (() => Promise<void>) | null,
}));

vi.mock('../src/lib/api', async (original) => ({
  ...(await original<object>()),
  api: {
    get: (path: string) => {
      world.asked.push(path);
      const key = Object.keys(world.answers).find((end) => path.endsWith(end));
      return key ? Promise.resolve().then(() => world.answers[key]!()) : Promise.reject(new Error(`no answer for ${path}`));
    },
  },
}));
vi.mock('../src/lib/hub', () => ({
  hub: {
    onTrace: (listener: (event: unknown) => void) => ((world.trace = listener), () => (world.trace = null)),
    onRow: (listener: (row: unknown) => void) => ((world.row = listener), () => (world.row = null)),
    onPoll: (poll: () => Promise<void>) => ((world.poll = poll), () => (world.poll = null)),
    follow: (job: string | null, after?: number) => world.followed.push([job, after]),
  },
}));

const events = readFileSync(join(import.meta.dirname, '../../tests/golden/trace/whole_run.jsonl'), 'utf-8')
  .split('\n')
  .filter(Boolean)
  .map((line) => JSON.parse(line) as TraceEvent);
const golden = savedJob();

/** What the server knows after so many events, as it answers: without the steps themselves. */
function serverAt(count: number, row: Partial<JobRow> = {}) {
  const view = viewOf(events.slice(0, count));
  const answer = { job: { ...golden.row, status: 'running', ...row }, view: { ...view, steps: [] }, quiz: null, insight: null, code: null, openai_cost: null };
  world.answers = {
    '/view': () => answer as unknown as JobView,
    '/metrics': () => noMetrics(),
    '/row_losses': () => {
      throw new ApiError(404, { message: 'No epoch is over.' });
    },
    '/events': () => ({ object: 'list', data: [{ id: 'two' }, { id: 'one' }], has_more: false }),
  };
}

let source: LiveSource;
const settle = () => vi.advanceTimersByTimeAsync(150);

beforeEach(() => {
  vi.useFakeTimers();
  world.asked = [];
  world.followed = [];
  source = new LiveSource(golden.row.id);
});
afterEach(() => {
  source.close();
  vi.useRealTimers();
});

describe('a live job', () => {
  it('is read once, then followed from where the view stands', async () => {
    serverAt(10);
    source.open();
    await settle();
    expect(source.data!.view.last_id).toBe(10);
    expect(source.data!.rowLosses).toBeNull();
    expect(source.data!.events.map((event) => event.id)).toEqual(['one', 'two']);
    expect(world.followed.at(-1)).toEqual([golden.row.id, 10]);
  });

  it('goes on with what the stream tells, and comes to what the server has', async () => {
    serverAt(10);
    source.open();
    await settle();
    const steps = events.slice(10, 12);
    steps.forEach((event) => world.trace!(event));
    await settle();
    expect(source.data!.view.steps.map((step) => step.loss)).toEqual([3, 2]);
    expect((source.data!.metrics as Metrics).series.train_loss_mean).toEqual([3, 2]);
    serverAt(events.length, { status: 'succeeded' });
    events.slice(12).forEach((event) => world.trace!(event));
    await settle();
    await settle();
    expect({ ...source.data!.view, steps: [] }).toEqual({ ...viewOf(events), steps: [] });
    expect(source.data!.row.status).toBe('succeeded');
  });

  it('keeps what came while an older view was on its way', async () => {
    serverAt(10);
    source.open();
    await settle();
    // The server's own view still stands at the 12th when the epoch is told.
    serverAt(12);
    events.slice(10, 14).forEach((event) => world.trace!(event));
    await settle();
    await settle();
    expect(source.data!.view.last_id).toBe(14);
    expect(source.data!.view.epochs).toHaveLength(1);
  });

  it('takes its row from the list’s events, and reads anew when the status changed', async () => {
    serverAt(10);
    source.open();
    await settle();
    world.asked = [];
    world.row!({ ...source.data!.row, step: 7 });
    expect(source.data!.row.step).toBe(7);
    expect(world.asked).toEqual([]);
    world.row!({ ...source.data!.row, id: 'ftjob-other', step: 99 });
    expect(source.data!.row.step).toBe(7);
    world.row!({ ...source.data!.row, status: 'paused' });
    await settle();
    expect(world.asked.some((path) => path.endsWith('/view'))).toBe(true);
  });

  it('says why there is nothing, and is there as soon as the server is', async () => {
    world.answers = {};
    source.open();
    await settle();
    expect(source.data).toBeNull();
    expect(source.trouble?.message).toContain('no answer');
    serverAt(10);
    await world.poll!();
    expect(source.data!.view.last_id).toBe(10);
    expect(source.trouble).toBeNull();
  });

  it('lets go of the stream when it is closed', async () => {
    serverAt(10);
    source.open();
    await settle();
    source.close();
    expect([world.trace, world.row, world.poll, world.followed.at(-1)![0]]).toEqual([null, null, null, null]);
  });
});
