/** A job of a running server as a source of JobData: read once, then kept new by the stream. */

import type { TraceEvent } from '../api/trace';
import type { Code, Insight, JobEvent, JobRow, JobView, List, Metrics, Quiz, RowLosses, TraceView } from '../api/types';
import { api, ApiError } from './api';
import { hub } from './hub';
import type { Connection, JobActions, JobData, JobSource } from './jobdata';
import { live } from './live-state.svelte';
import { extended, noMetrics } from './metrics';
import { apply } from './reducer';

class LiveData implements JobData {
  row = $state.raw<JobRow>()!;
  view = $state.raw<TraceView>()!;
  metrics = $state.raw<Metrics | null>(null);
  rowLosses = $state.raw<RowLosses | null>(null);
  events = $state.raw<readonly JobEvent[]>([]);
  quiz = $state.raw<Quiz | null>(null);
  insight = $state.raw<Insight | null>(null);
  code = $state.raw<Code | null>(null);
  cost = $state.raw<Record<string, unknown> | null>(null);
  readonly actions: JobActions;

  constructor(answer: JobView, actions: JobActions) {
    this.actions = actions;
    this.take(answer);
  }

  get connection(): Connection {
    return live.connection;
  }

  take(answer: JobView): void {
    this.row = answer.job;
    this.view = answer.view;
    this.quiz = answer.quiz;
    this.insight = answer.insight;
    this.code = answer.code;
    this.cost = answer.openai_cost;
  }
}

/** Steps that are drawn one by one before the server is asked for its own, shorter series again. */
const TAIL = 400;
/** Events come in bursts; a page is drawn ten times a second at most. */
const GATHER_MS = 100;

export class LiveSource implements JobSource {
  readonly id: string;
  data = $state.raw<LiveData | null>(null);
  trouble = $state.raw<Error | null>(null);
  #stops: (() => void)[] = [];
  #burst: TraceEvent[] = [];
  /** Applied since the view was read, for a view that was on its way meanwhile. */
  #recent: TraceEvent[] = [];
  #gather: ReturnType<typeof setTimeout> | undefined;
  #tail = 0;
  #open = false;

  constructor(id: string) {
    this.id = id;
  }

  open(): void {
    this.close();
    this.#open = true;
    this.#stops = [
      hub.onTrace((event) => this.#heard(event)),
      hub.onRow((row) => row.id === this.id && this.#moved(row)),
      hub.onPoll(() => this.#load()),
    ];
    this.#load().catch(() => {});
  }

  close(): void {
    this.#open = false;
    for (const stop of this.#stops) stop();
    this.#stops = [];
    clearTimeout(this.#gather);
    hub.follow(null);
  }

  /** Read everything; throws where the server does not answer. */
  async #load(): Promise<void> {
    try {
      await this.#readView();
      if (!this.#open) return;
      hub.follow(this.id, this.data!.view.last_id);
      await this.#readRest();
      this.trouble = null;
    } catch (error) {
      this.trouble = error as Error;
      throw error;
    }
  }

  async #readView(): Promise<void> {
    const answer = await api.get<JobView>(`/v1/luthier/jobs/${encodeURIComponent(this.id)}/view`);
    if (!this.#open) return;
    const since = this.#recent.filter((event) => event.id > answer.view.last_id);
    this.#recent = since;
    const fresh = { ...answer, view: apply(answer.view, since) };
    if (this.data) this.data.take(fresh);
    else this.data = new LiveData(fresh, actionsOf(this.id));
  }

  async #readRest(): Promise<void> {
    const data = this.data!;
    const events = api.get<List<JobEvent>>(`/v1/fine_tuning/jobs/${encodeURIComponent(this.id)}/events`, { query: { limit: 100 } });
    // Each is shown as soon as it is there; together, so that no failure of one goes unheard while another is awaited.
    await Promise.all([
      optional(data.actions.metrics({})).then((metrics) => {
        data.metrics = metrics;
        this.#tail = 0;
      }),
      optional(data.actions.rowLosses({ order: 'loss', limit: 100 })).then((rows) => (data.rowLosses = rows)),
      events.then((found) => (data.events = found.data.toReversed())),
    ]);
  }

  #heard(event: TraceEvent): void {
    this.#burst.push(event);
    if (this.#burst.length === 1) this.#gather = setTimeout(() => this.#take(), GATHER_MS);
  }

  #take(): void {
    const events = this.#burst.splice(0);
    const { data } = this;
    if (!data) return;
    this.#recent.push(...events);
    data.view = apply(data.view, events);
    const steps = events.flatMap((event) => (event.type === 'StepDone' ? [event.data] : []));
    data.metrics = extended(data.metrics ?? noMetrics(), steps);
    this.#tail += steps.length;
    // What an epoch means rests on all its steps, which only the server has.
    const turned = events.some((event) => event.type === 'EpochDone' || event.type === 'Evaluated' || event.type === 'RunFinished');
    if (turned || this.#tail > TAIL) this.#again();
  }

  #moved(row: JobRow): void {
    if (!this.data) return;
    const ended = row.status !== this.data.row.status;
    this.data.row = row;
    if (ended) this.#again();
  }

  #again(): void {
    // A failure here shows on the stream, which then asks again.
    this.#readView()
      .then(() => (this.#open ? this.#readRest() : undefined))
      .catch(() => {});
  }
}

/** What is missing (404) is not there yet. */
async function optional<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

export function actionsOf(id: string): JobActions {
  const job = encodeURIComponent(id);
  const ours = `/v1/luthier/jobs/${job}`;
  const move = async (what: string) => void (await api.post(`/v1/fine_tuning/jobs/${job}/${what}`));
  return {
    cancel: () => move('cancel'),
    pause: () => move('pause'),
    resume: () => move('resume'),
    rowLosses: (query) => api.get(`${ours}/row_losses`, { query }),
    metrics: (query) => api.get(`${ours}/metrics`, { query }),
    jobs: (query) => api.get('/v1/luthier/jobs', { query: { sort: '-created_at', ...query } }),
    metricsOf: (other, query = {}) => api.get(`/v1/luthier/jobs/${encodeURIComponent(other)}/metrics`, { query }),
    predict: (request, signal) => api.post('/v1/luthier/trace', request, signal ? { signal } : {}),
  };
}
