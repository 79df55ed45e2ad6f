/** A job of a running server as a source of JobData: read once, then kept new by the stream. */

import type { Code, Insight, JobEvent, JobRow, JobView, List, Metrics, Quiz, RowLosses, TraceView } from '../api/types';
import { api, ApiError } from './api';
import type { Connection, JobActions, JobData, JobSource } from './jobdata';

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
  connection = $state<Connection>('polling');
  readonly actions: JobActions;

  constructor(answer: JobView, actions: JobActions) {
    this.actions = actions;
    this.take(answer);
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

export class LiveSource implements JobSource {
  readonly id: string;
  data = $state.raw<LiveData | null>(null);
  trouble = $state.raw<Error | null>(null);
  #closed = false;

  constructor(id: string) {
    this.id = id;
  }

  open(): void {
    this.#closed = false;
    void this.#load();
  }

  close(): void {
    this.#closed = true;
  }

  async #load(): Promise<void> {
    try {
      const answer = await api.get<JobView>(`/v1/luthier/jobs/${encodeURIComponent(this.id)}/view`);
      if (this.#closed) return;
      const data = this.data ?? new LiveData(answer, actionsOf(this.id));
      data.take(answer);
      this.data = data;
      this.trouble = null;
      const [metrics, rows, events] = await Promise.all([
        data.actions.metrics({}),
        optional(data.actions.rowLosses({ order: 'loss', limit: 100 })),
        api.get<List<JobEvent>>(`/v1/fine_tuning/jobs/${encodeURIComponent(this.id)}/events`, { query: { limit: 100 } }),
      ]);
      if (this.#closed) return;
      data.metrics = metrics;
      data.rowLosses = rows;
      data.events = events.data.toReversed();
    } catch (error) {
      this.trouble = error as Error;
    }
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
