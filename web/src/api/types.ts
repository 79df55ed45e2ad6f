/** The forms of what the dashboard reads, beside those made from the code (`trace.ts`, `schema.ts`). */

import type {
  BaseMeasured,
  CheckpointSaved,
  EpochDone,
  ForecastChecked,
  ModelPublished,
  Notice,
  PromptsAnswered,
  ReferenceScored,
  ResumeSaved,
  RunFinished,
  RunStarted,
  SpecResolved,
  Stage,
  StageFinished,
  StepDone,
} from './trace';

export type JobStatus = 'validating_files' | 'queued' | 'running' | 'paused' | 'succeeded' | 'failed' | 'cancelled';
export const FINAL: readonly JobStatus[] = ['succeeded', 'failed', 'cancelled'];

/** OpenAI's error inside a job or an answer. */
export interface ErrorBody {
  code: string | null;
  message: string;
  param?: string | null;
  type?: string;
}

/** `luthier.job`: one line of the list of jobs. What is not known is null. */
export interface JobRow {
  object: 'luthier.job';
  id: string;
  status: JobStatus;
  created_at: number;
  started_at: number | null;
  finished_at: number | null;
  model: string;
  base: string;
  method: string;
  adapter: string | null;
  suffix: string | null;
  fine_tuned_model: string | null;
  metadata: Record<string, string> | null;
  training_file: string;
  validation_file: string | null;
  step: number | null;
  total_steps: number | null;
  epoch: number | null;
  total_epochs: number | null;
  train_loss: number | null;
  valid_loss: number | null;
  best_valid_loss: number | null;
  eta_seconds: number | null;
  queue_place: number | null;
  error: ErrorBody | null;
}

export interface List<T> {
  object: 'list';
  data: T[];
  has_more: boolean;
  total?: number;
  first_id?: string | null;
  last_id?: string | null;
}

/** `luthier.session`. */
export interface Session {
  object: 'luthier.session';
  csrf: string;
  role: string;
  project_id: string | null;
  expires_at: number;
}

/** A token as a stage's sample and a prediction show it. */
export interface TokenPart {
  text: string;
  kind: 'trained' | 'context' | 'special' | (string & {});
  role?: string | null;
  id?: number | null;
  bytes?: number[] | null;
}

/** One step of a generated answer. */
export interface PathStep {
  id?: number | null;
  token: string;
  probability: number;
  logprob?: number | null;
  rank?: number | null;
  entropy?: number | null;
  /** Chosen by the caller: a side branch. */
  forced?: boolean;
  top: { id?: number | null; token: string; probability: number; logprob?: number | null }[];
  /** The model ended its answer here. */
  end?: boolean;
}

/** What a run itself recorded of one unseen prompt (`PredictionTraced`). */
export interface RecordedPrediction {
  prompt: string;
  held_out: boolean;
  prompt_tokens: TokenPart[];
  base: { answer: string; path: PathStep[] } | null;
  tuned: { answer: string; path: PathStep[] } | null;
}

/** Base beside tuned on the held-out rows (`Evaluated`). */
export interface Evaluation {
  n: number;
  base: { loss: number; accuracy: number; exact_match: number } | null;
  tuned: { loss: number; accuracy: number; exact_match: number } | null;
  better: number;
  worse: number;
  same: number;
  samples: { prompt: string; expected: string; base: string; tuned: string; [other: string]: unknown }[];
  preference?: Record<string, unknown> | null;
}

export interface FixedAnswer {
  line: number;
  prompt: string;
  expected: string;
  answer: string;
}

export interface Decision {
  name: string;
  value: unknown;
  reason: string;
}

export interface StageState {
  stage: Stage;
  status: 'waiting' | 'running' | 'done';
  shape_in: string | null;
  report: StageFinished | null;
}

export type EpochRow = EpochDone & { observation: string };

/** `TraceView.to_dict()`; from the view endpoint `steps` is empty and `metrics` has the series. */
export interface TraceView {
  run: string | null;
  last_id: number;
  started: RunStarted | null;
  resumed_from: number[];
  stages: StageState[];
  spec: (Omit<SpecResolved, 'decisions'> & { decisions: Decision[] }) | null;
  base: BaseMeasured | null;
  reference: ReferenceScored | null;
  first_step_at: number | null;
  steps: StepDone[];
  epochs: EpochRow[];
  answers: (Omit<PromptsAnswered, 'answers'> & { answers: FixedAnswer[] })[];
  checkpoints: CheckpointSaved[];
  resume: ResumeSaved | null;
  evaluation: Evaluation | null;
  prediction: RecordedPrediction | null;
  published: ModelPublished | null;
  forecast: Record<string, unknown> | null;
  forecast_checked: ForecastChecked | null;
  notices: Notice[];
  finished: RunFinished | null;
}

/** `luthier.metrics`: the steps in at most so many buckets. A series has one value a bucket. */
export interface Metrics {
  object: 'luthier.metrics';
  /** Steps known. */
  steps: number;
  /** Steps to a bucket. */
  bucket: number;
  series: {
    step: number[];
    train_loss_min: (number | null)[];
    train_loss_mean: (number | null)[];
    train_loss_max: (number | null)[];
    accuracy_mean: (number | null)[];
    learning_rate: (number | null)[];
    grad_norm_mean: (number | null)[];
    valid: { step: number[]; loss: (number | null)[]; accuracy: (number | null)[]; full: boolean[] };
  };
}

export interface RowLoss {
  line: number;
  tokens: number;
  loss: number | null;
  first_loss?: number | null;
  [other: string]: unknown;
}

export interface RowLosses extends List<RowLoss> {
  epoch: number | null;
  epochs: number[];
}
export type RowOrder = 'line' | 'loss' | 'fall';

export interface Quiz {
  questions: {
    id: string;
    question: string;
    answers: { text: string; correct: boolean }[];
    explanation: string;
    view: string;
    anchor: string;
  }[];
}

export interface Insight {
  text: string;
  rule: string;
  view: string;
  anchor: string;
}

/** The calls that reproduce this job. */
export interface Code {
  python: string;
  curl: string;
  cli: string;
}

/** `luthier.job_view`. */
export interface JobView {
  object: 'luthier.job_view';
  job: JobRow;
  view: TraceView;
  step_count: number;
  quiz: Quiz | null;
  insight: Insight | null;
  code: Code | null;
  openai_cost: Record<string, unknown> | null;
}

export interface JobEvent {
  id: string;
  object: string;
  created_at: number;
  level: string;
  message: string;
  type?: string;
  data?: unknown;
}

/** Request of the prediction trace, `POST /v1/luthier/trace`. */
export interface PredictionRequest {
  model: string;
  base?: string | null;
  messages?: { role: string; content: string }[];
  prompt?: string;
  max_tokens?: number;
  tiers?: ('A' | 'B' | 'C')[];
  /** Whose attention is told; the last one's without it. */
  layer?: number;
  /** The place in the prompt whose neighbours in the vocabulary are wanted. */
  token?: number;
  /** Token ids chosen so far: a side branch. */
  path?: number[];
  answer?: string | null;
  nearest?: boolean;
}

export interface PredictionSide {
  answer: string;
  finish_reason: string | null;
  path: PathStep[];
}

/** Layer 3 of one model; matrices are layer by position, layers from 0, each "after block i". The logit lens is `top` and `probability`. */
export interface LayerSide {
  top: number[][];
  probability: (number | null)[][];
  /** First layer from which the final token stays on top, per position. */
  settled: number[];
  /** First layer at which the token that really follows is on top. */
  appears: (number | null)[];
  residual_norm: (number | null)[];
  attention_norm: (number | null)[] | null;
  mlp_norm: (number | null)[] | null;
  /** attention_norm / (attention_norm + mlp_norm) */
  attention_share: (number | null)[] | null;
}

/** Layer 3 of both models over the same tokens. Place p predicts token p + 1. */
export interface PredictionLayers {
  count: number;
  positions: number[];
  sequence: { id: number; token: string }[];
  targets: (number | null)[];
  tokens: Record<string, string>;
  tuned: LayerSide;
  base: LayerSide | null;
}

/** Attention of one layer of the tuned model; a row has a weight for each place up to and with its query. */
export interface PredictionAttention {
  layer: number;
  heads: number;
  keys: number;
  queries: number[];
  mean: number[][];
  per_head_queries: number[];
  per_head: number[][][];
}

export interface ForcedToken {
  id: number;
  text: string;
  tuned_logprob: number | null;
  base_logprob: number | null;
  /** tuned - base, nats. */
  change: number | null;
}

/** `luthier.prediction_trace`, as `core/prediction.py` has it. What was not measured is null and stands in `missing`. */
export interface PredictionTrace {
  object: 'luthier.prediction_trace';
  model: string;
  base: string | null;
  prompt_tokens: TokenPart[];
  tuned: PredictionSide;
  base_side: PredictionSide | null;
  forced: { source: 'tuned' | 'answer'; tokens: ForcedToken[] } | null;
  embedding: { norms: number[]; token: number | null; neighbours: { id: number; token: string; cosine: number }[] | null } | null;
  layers: PredictionLayers | null;
  adapter: { layer: number | null; module: string; relative_change: number | null }[] | null;
  attention: PredictionAttention | null;
  nearest: { line: number; similarity: number; shared: string[]; prompt: string; answer: string }[] | null;
  why: {
    most_shifted: (ForcedToken & { index: number })[];
    first_layers: { index: number; id: number; text: string; tuned_layer: number | null; base_layer: number | null }[];
  } | null;
  missing: { tier: string; reason: string }[];
  seconds: number;
}

/** `luthier.model`: a served model with what hangs on it. */
export interface ModelRow {
  object: 'luthier.model';
  id: string;
  kind: 'base' | 'adapter' | 'full' | (string & {});
  base: string;
  created_at: number;
  owned_by: string;
  job_id: string | null;
  step: number | null;
  bytes: number | null;
  licence: string | null;
  runs_on: string | null;
  source: string | null;
  aliases: string[];
  /** Names of the checkpoints of the same job, of a finished job's model. */
  checkpoints: string[];
  deletable: boolean;
  /** What a deletion would touch; the jobs are unfinished ones that go on from this model. */
  dependents: { aliases: string[]; jobs: string[] };
}

/** `luthier.system`; what the server cannot read is null. */
export interface SystemState {
  object: 'luthier.system';
  devices: { kind: 'cpu' | 'gpu'; name: string; cores: number | null; memory_total: number | null; memory_free: number | null }[];
  memory: { total: number | null; available: number | null; api_bytes: number | null; engine_bytes: number | null };
  disk: { total: number; free: number; watched_seconds: number; bytes_per_day: number | null; seconds_to_full: number | null };
  queue: { jobs: Record<string, number>; waiting: number };
  workers: { role: string; seconds_since_beat: number | null; alive: boolean }[];
  engine: { loaded: string[]; active: number; threads: number; uptime_seconds: number } | null;
  keys: number;
  webhooks: number;
  versions: Record<string, string>;
  /** Of the server, where it says so. */
  uptime_seconds?: number | null;
}
