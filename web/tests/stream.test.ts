import { beforeEach, describe, expect, it } from 'vitest';
import type { Connection } from '../src/lib/jobdata';
import { POLL_MS, Stream, type EventSourceLike } from '../src/lib/stream';

class FakeSource implements EventSourceLike {
  onerror: ((event: Event) => void) | null = null;
  closed = false;
  readonly #listeners = new Map<string, (event: MessageEvent<string>) => void>();
  constructor(readonly url: string) {}
  addEventListener(type: string, listener: (event: MessageEvent<string>) => void): void {
    this.#listeners.set(type, listener);
  }
  close(): void {
    this.closed = true;
  }
  send(type: string, data: unknown, lastEventId = '7-0'): void {
    this.#listeners.get(type)!({ data: JSON.stringify(data), lastEventId } as MessageEvent<string>);
  }
  break(): void {
    this.onerror!(new Event('error'));
  }
}

let sources: FakeSource[];
let waits: { run: () => void; ms: number; gone: boolean }[];
let said: Connection[];
let stream: Stream;

const settled = () => new Promise((done) => setImmediate(done));
const due = (ms: number) => waits.filter((wait) => !wait.gone && wait.ms === ms);
const last = () => sources.at(-1)!;
const trace = (id: number, run = 'ftjob-1') => ({ id, run, type: 'StepDone', data: {} });

beforeEach(() => {
  sources = [];
  waits = [];
  said = [];
  stream = new Stream(
    {
      open: (url) => {
        sources.push(new FakeSource(url));
        return last();
      },
      later: (run, ms) => {
        const wait = {
          ms,
          gone: false,
          run: () => {
            wait.gone = true;
            run();
          },
        };
        waits.push(wait);
        return wait;
      },
      forget: (timer) => {
        if (timer) (timer as { gone: boolean }).gone = true;
      },
      dice: () => 0.5,
    },
    (connection) => said.push(connection),
  );
});

describe('the stream', () => {
  it('is live once the server said hello, not before', () => {
    stream.start();
    expect(last().url).toBe('/v1/luthier/stream');
    expect(said).toEqual([]);
    last().send('hello', {});
    expect(said).toEqual(['live']);
  });

  it('hands rows and the followed job’s events on, each id once', () => {
    const rows: unknown[] = [];
    const ids: number[] = [];
    stream.onRow((row) => rows.push(row.id));
    stream.onTrace((event) => ids.push(event.id));
    stream.follow('ftjob-1', 3);
    stream.start();
    expect(last().url).toBe('/v1/luthier/stream?job=ftjob-1&after=3');
    last().send('job', { id: 'ftjob-1' });
    for (const id of [3, 4, 4, 5]) last().send('trace', trace(id));
    last().send('trace', trace(9, 'ftjob-2'));
    expect(rows).toEqual(['ftjob-1']);
    expect(ids).toEqual([4, 5]);
  });

  it('goes on where it was: ids of jobs and of the trace go back to the server', () => {
    stream.follow('ftjob-1', 0);
    stream.start();
    last().send('trace', trace(12), '31-12');
    last().break();
    expect(last().closed).toBe(true);
    due(500)[0]!.run();
    expect(last().url).toBe('/v1/luthier/stream?job=ftjob-1&after=12&last_event_id=31-12');
  });

  it('waits longer each time it fails, up to a bound, and from the start again once it was live', () => {
    stream.start();
    const seen: number[] = [];
    for (let i = 0; i < 8; i += 1) {
      last().break();
      const wait = waits.filter((w) => !w.gone && w.ms !== POLL_MS).at(-1)!;
      seen.push(wait.ms);
      wait.run();
    }
    expect(seen).toEqual([500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
    last().send('hello', {});
    last().break();
    expect(waits.at(-1)!.ms).toBe(500);
  });

  it('asks while the stream is down, says so, and stops when it is back', async () => {
    let asked = 0;
    stream.onPoll(async () => {
      asked += 1;
      return Promise.resolve();
    });
    stream.start();
    last().break();
    await settled();
    expect([asked, said]).toEqual([1, ['polling']]);
    due(POLL_MS)[0]!.run();
    await settled();
    expect(asked).toBe(2);
    due(500)[0]!.run();
    last().send('hello', {});
    expect(said.at(-1)).toBe('live');
    const before = asked;
    for (const wait of due(POLL_MS)) wait.run();
    await settled();
    expect(asked).toBe(before);
  });

  it('says that it is not live when nobody answers', async () => {
    stream.onPoll(() => Promise.reject(new Error('gone')));
    stream.start();
    last().break();
    await settled();
    expect(said).toEqual(['lost']);
  });

  it('hears another job from where that one’s view stands, and nothing more of a closed source', () => {
    const ids: number[] = [];
    stream.onTrace((event) => ids.push(event.id));
    stream.follow('ftjob-1', 5);
    stream.start();
    const first = last();
    first.send('hello', {}, '8-5');
    stream.follow('ftjob-2', 40);
    expect(first.closed).toBe(true);
    expect(last().url).toBe('/v1/luthier/stream?job=ftjob-2&after=40&last_event_id=8-40');
    first.send('trace', trace(6));
    first.break();
    expect(sources).toHaveLength(2);
    expect(ids).toEqual([]);
  });

  it('stops: nothing is opened or asked afterwards', () => {
    stream.start();
    last().break();
    stream.stop();
    expect(due(500)).toEqual([]);
    stream.wake();
    expect(sources).toHaveLength(1);
  });
});
