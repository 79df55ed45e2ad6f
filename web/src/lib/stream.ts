/**
 * The one stream of a tab: what changes on the server, with ids, so that nothing is told twice or lost. Reopens by itself, waits a little
 * longer each time, and meanwhile asks (`polls`). What it does not: know what the events mean. `hub.ts` has the page's one.
 */

import type { TraceEvent } from '../api/trace';
import type { JobRow } from '../api/types';
import type { Connection } from './jobdata';

export interface EventSourceLike {
  addEventListener(type: string, listener: (event: MessageEvent<string>) => void): void;
  onerror: ((event: Event) => void) | null;
  close(): void;
}

export interface StreamTools {
  open(url: string): EventSourceLike;
  later(run: () => void, ms: number): unknown;
  forget(timer: unknown): void;
  /** 0 to 1: pages that lost the same server do not all come back at once. */
  dice(): number;
}

export const POLL_MS = 5000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;

type Listener<T> = (value: T) => void;

export class Stream {
  readonly #tools: StreamTools;
  readonly #say: Listener<Connection>;
  readonly #rows = new Set<Listener<JobRow>>();
  readonly #traces = new Set<Listener<TraceEvent>>();
  readonly #polls = new Set<() => Promise<void>>();
  #source: EventSourceLike | null = null;
  #job: string | null = null;
  #jobsMark: string | null = null;
  #after = 0;
  #failures = 0;
  #retry: unknown = null;
  #poll: unknown = null;
  #running = false;
  #polling = false;

  constructor(tools: StreamTools, say: Listener<Connection>) {
    this.#tools = tools;
    this.#say = say;
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#open();
  }

  stop(): void {
    this.#running = false;
    this.#close();
    this.#tools.forget(this.#retry);
    this.#stopPolling();
  }

  /** Hear a job's trace events after that id too; null: of no job. */
  follow(job: string | null, after = 0): void {
    if (job === this.#job && after === this.#after) return;
    const same = job === this.#job;
    this.#job = job;
    this.#after = after;
    if (this.#running && !same) this.#open();
  }

  /** Open anew now: the network or the tab is back. */
  wake(): void {
    if (this.#running) this.#open();
  }

  onRow(listener: Listener<JobRow>): () => void {
    return added(this.#rows, listener);
  }

  onTrace(listener: Listener<TraceEvent>): () => void {
    return added(this.#traces, listener);
  }

  /** What to ask while the stream does not come through, and once when it is back. */
  onPoll(poll: () => Promise<void>): () => void {
    return added(this.#polls, poll);
  }

  #url(): string {
    const query = new URLSearchParams();
    if (this.#job) query.set('job', this.#job);
    if (this.#job) query.set('after', String(this.#after));
    if (this.#jobsMark !== null) query.set('last_event_id', `${this.#jobsMark}-${this.#after}`);
    return `/v1/luthier/stream${query.size ? `?${query}` : ''}`;
  }

  #open(): void {
    this.#close();
    this.#tools.forget(this.#retry);
    const source = this.#tools.open(this.#url());
    this.#source = source;
    const hear = <T>(type: string, take: (value: T) => void) =>
      source.addEventListener(type, (event) => {
        if (this.#source !== source) return;
        const mark = /^(.+)-\d+$/.exec(event.lastEventId)?.[1];
        if (mark !== undefined) this.#jobsMark = mark;
        take(JSON.parse(event.data) as T);
      });
    hear('hello', () => this.#isLive());
    hear<JobRow>('job', (row) => this.#rows.forEach((listener) => listener(row)));
    hear<TraceEvent>('trace', (event) => {
      if (event.run !== this.#job || event.id <= this.#after) return;
      this.#after = event.id;
      this.#traces.forEach((listener) => listener(event));
    });
    source.onerror = () => this.#source === source && this.#failed();
  }

  #isLive(): void {
    this.#failures = 0;
    this.#stopPolling();
    this.#say('live');
  }

  #failed(): void {
    this.#close();
    const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#failures);
    this.#failures += 1;
    this.#retry = this.#tools.later(() => this.#open(), wait * (0.75 + this.#tools.dice() / 2));
    if (!this.#polling) {
      this.#polling = true;
      void this.#ask();
    }
  }

  async #ask(): Promise<void> {
    const answers = await Promise.allSettled([...this.#polls].map((poll) => poll()));
    if (!this.#polling) return;
    const silent = answers.some((answer) => answer.status === 'rejected');
    this.#say(silent || answers.length === 0 ? 'lost' : 'polling');
    this.#poll = this.#tools.later(() => void this.#ask(), POLL_MS);
  }

  #stopPolling(): void {
    this.#polling = false;
    this.#tools.forget(this.#poll);
  }

  #close(): void {
    this.#source?.close();
    this.#source = null;
  }
}

function added<T>(set: Set<T>, item: T): () => void {
  set.add(item);
  return () => set.delete(item);
}
