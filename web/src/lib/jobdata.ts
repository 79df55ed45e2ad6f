/**
 * The one object that all nine views of a job read, and where it comes from. A view never calls the server: it reads `JobData`, and
 * asks for more through `data.actions`, which a self-contained page does not have (null there).
 */

import type {
  Code,
  Insight,
  JobEvent,
  JobRow,
  List,
  Metrics,
  PredictionRequest,
  PredictionTrace,
  Quiz,
  RowLosses,
  RowOrder,
  TraceView,
} from '../api/types';
import type { DataReport, DoctorReport, RowPreview } from './dataset-tasks';

/** live: events arrive; polling: asked for every few seconds; lost: nobody answers; static: a saved page. */
export type Connection = 'live' | 'polling' | 'lost' | 'static';

export interface JobData {
  readonly row: JobRow;
  readonly view: TraceView;
  /** Null until the job has steps. */
  readonly metrics: Metrics | null;
  /** The rows with the highest loss after the newest epoch; null until an epoch is over. */
  readonly rowLosses: RowLosses | null;
  /** OpenAI's events of the job, oldest first. */
  readonly events: readonly JobEvent[];
  readonly quiz: Quiz | null;
  readonly insight: Insight | null;
  readonly code: Code | null;
  readonly cost: Record<string, unknown> | null;
  /** A prompt that was traced when the page was saved. */
  readonly traced?: PredictionTrace | null;
  readonly connection: Connection;
  readonly actions: JobActions | null;
}

/** What needs a server. Each throws an ApiError when it is refused. */
export interface JobActions {
  cancel(): Promise<void>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  rowLosses(query: { epoch?: number; order?: RowOrder; after?: number; limit?: number }): Promise<RowLosses>;
  metrics(query: { points?: number; from?: number; to?: number }): Promise<Metrics>;
  /** Other jobs, newest first, to lay over this one. */
  jobs(query: { search?: string; after?: string; limit?: number }): Promise<List<JobRow>>;
  metricsOf(job: string, query?: { points?: number }): Promise<Metrics>;
  predict(request: PredictionRequest, signal?: AbortSignal): Promise<PredictionTrace>;
  /** The events before that one, newest first. */
  olderEvents(after: string): Promise<List<JobEvent>>;
  /** A line of the training file, token by token, as this job reads it. */
  preview(line: number): Promise<RowPreview>;
  /** Every fault of one of the job's files. */
  check(role: 'training' | 'validation'): Promise<DataReport>;
  /** What the training file would teach that it should not. */
  doctor(): Promise<DoctorReport>;
}

/** Where a JobData comes from. */
export interface JobSource {
  /** Null until the first answer; then always the newest state, reactive. */
  readonly data: JobData | null;
  /** Why there is no data, where asking failed. */
  readonly trouble: Error | null;
  open(): void;
  close(): void;
}

/** What a self-contained page holds: everything of JobData but what needs a server. */
export type SavedJob = Omit<JobData, 'connection' | 'actions'> & {
  saved_at: number;
  version: string;
  /** What did not fit into the page, a sentence each. */
  left_out?: readonly string[];
};

/** A saved job as a source. */
export function staticSource(saved: SavedJob): JobSource {
  return { data: { ...saved, connection: 'static', actions: null }, trouble: null, open() {}, close() {} };
}
