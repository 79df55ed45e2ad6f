// Made by scripts/make_web_types.py; make docs renews it.

export const SCHEMA_VERSION = 1;

export type Stage = 'data_collection' | 'data_preprocessing' | 'fine_tuning_training' | 'evaluation' | 'deployment';

export const STAGES: readonly Stage[] = ['data_collection', 'data_preprocessing', 'fine_tuning_training', 'evaluation', 'deployment'];

/** A trainer took the job. */
export interface RunStarted {
  /** The name that was asked for. */
  model: string;
  /** The open model that trains. */
  base: string;
  attempt: number;
  /** 0 for a fresh start. */
  resumed_from_step: number;
}

/** A stage begins. */
export interface StageStarted {
  shape_in: string;
}

/** A stage is done: what came in, what was done, what went out, one real sample, what was dropped or changed. */
export interface StageFinished {
  shape_in: string;
  did: string;
  shape_out: string;
  seconds: number;
  changes: string[];
  sample: Record<string, unknown>;
}

/** Every "auto" became a number. */
export interface SpecResolved {
  spec: Record<string, unknown>;
  /** ``name``, ``value``, ``reason`` of each decided number. */
  decisions: Record<string, unknown>[];
  trainable_parameters: number;
  total_parameters: number;
}

/** A learning-rate range test before the first step, on weights that were thrown away: what each rate did, and which one was taken. */
export interface RangeTested {
  /** That were to be taken; there are fewer points where a number was not finite. */
  steps: number;
  /** What would have been taken without it; the test goes from a tenth to ten times of it. */
  base_rate: number;
  /** The peak rate of the run. */
  learning_rate: number;
  /** Where the smoothed curve is lowest; None where the test said nothing and the base rate stays. */
  lowest_rate: number | null;
  rates: number[];
  /** Mean over a step's trained tokens before its update, nats. */
  losses: number[];
  /** The same less the loss of the same rows on the model as it starts. */
  changes: number[];
  /** ``changes``, smoothed over neighbouring rates. */
  curve: number[];
  seconds: number;
}

/** One optimiser step. */
export interface StepDone {
  step: number;
  total_steps: number;
  epoch: number;
  /** Mean over the step's trained tokens, nats; over its pairs where there are pairs of answers. With ``prompt_loss_weight`` the tokens of prompts count in it with their weight; accuracies, token counts and held-out losses are of the answers alone all the same. */
  loss: number;
  /** Share of greedy hits among the trained tokens; among those of the preferred answers where there are pairs. */
  token_accuracy: number;
  /** Trained tokens in the step. */
  num_tokens: number;
  learning_rate: number;
  grad_norm: number;
  seconds: number;
  valid_loss: number | null;
  valid_accuracy: number | null;
  /** Lines of the training file in the step, sorted; the first 32. */
  lines: number[];
  /** With pairs of answers, means over the step's pairs. A reward is beta times the log-ratio of an answer to the reference; by ORPO, which has none, beta times the mean log-probability of its tokens. ``reward_chosen``, ``reward_rejected``, ``reward_margin`` (the first less the second), ``reward_accuracy`` (share of pairs with a margin above 0; one of exactly 0 counts half). ``logp_chosen``, ``logp_rejected``: log-probabilities of whole answers, nats. ``prefers``: share of pairs whose preferred answer is the likelier one, whatever the reference says. None for other jobs. */
  preference: Record<string, number> | null;
  /** The same of the small validation, where there was one. */
  valid_preference: Record<string, number> | null;
  /** Tokens of the step's rows, padding not counted. */
  tokens: number | null;
  /** These tokens over the seconds of forward, backward and update; a validation after the step does not count. */
  tokens_per_second: number | null;
  /** Share of the positions that were computed and held no token, 0 to 1. */
  padding_share: number | null;
  /** Resident memory of the training process after the step; on a GPU the most that its tensors took there so far. */
  memory_bytes: number | null;
  /** Model FLOPs utilisation: operations that the step's tokens need (forward and backward, without padding, recomputation and the adapter's own; attention counted whole, as in Chowdhery et al. 2022, arXiv:2204.02311) per second, over what the device did in products of this model's own matrices, measured before the first step. None where that was not measured. */
  flops_utilization: number | null;
}

/** One pass over the training file. Means are weighted by trained tokens over all steps of the epoch. */
export interface EpochDone {
  epoch: number;
  n_epochs: number;
  step: number;
  /** Of the same tokens as ``StepDone.loss``. */
  train_loss: number;
  train_accuracy: number;
  valid_loss: number | null;
  valid_accuracy: number | null;
  /** Loss of the sample example of the data stages, after this epoch. */
  sample_loss: number | null;
  seconds: number;
  /** As in ``StepDone``, over all pairs of the epoch, each as it was before its step. */
  preference: Record<string, number> | null;
  /** The same over all held-out pairs, after the epoch. */
  valid_preference: Record<string, number> | null;
}

/** A step whose loss or gradient was no finite number: weights and optimizer stayed as they were. */
export interface StepSkipped {
  step: number;
  total_steps: number;
  epoch: number;
  /** ``loss`` or ``gradient``. */
  what: string;
  /** Lines of the training file that it may come from, sorted; the first 32. */
  lines: number[];
  /** How many steps in a row were skipped, this one among them. */
  in_row: number;
  /** One more than so many in a row ends the job. */
  allowed: number;
}

/** A step's loss, before its update, far above those before it. */
export interface LossSpiked {
  step: number;
  /** Mean over the step's trained tokens, nats. */
  loss: number;
  /** The median of the up to 32 losses before it. */
  usual: number;
  /** What it is above: the median and eight robust deviations, half of it and 0.5 nats, and the run's first losses. */
  bound: number;
  /** Of the training file, sorted; the first 32. */
  lines: number[];
  /** The learning rate is half of what it was, from this step on. */
  halved: boolean;
  /** What the schedule's rate is multiplied by now. */
  rate_factor: number;
}

/** Which checkpoint becomes the job's model, where it was to be chosen or the run ends early. */
export interface ModelChosen {
  step: number;
  epoch: number;
  last_step: number;
  last_epoch: number;
  /** That were decided; the last one may be an earlier one. */
  n_epochs: number;
  /** The one with the lowest held-out loss; 0 where none could be measured. */
  best_epoch: number;
  best_loss: number | null;
  /** Epochs without a better loss after which the run ends; 0: it does not end early. */
  patience: number;
  min_delta: number;
  /** ``best`` or ``last``. */
  keep: string;
}

/** The same few prompts, answered greedily by the model in training. */
export interface PromptsAnswered {
  /** After this one; 0 is the base. */
  epoch: number;
  /** True: rows of the validation file. */
  held_out: boolean;
  /** ``line``, ``prompt``, ``expected`` and ``answer`` of each; long texts are cut. */
  answers: Record<string, unknown>[];
}

/** The base's own loss on the validation file (or, without one, on the training file) before the first step. */
export interface BaseMeasured {
  loss: number;
  accuracy: number;
  held_out: boolean;
  /** With pairs of answers, of the model as tuning starts from it; as in ``StepDone``. */
  preference: Record<string, number> | null;
}

/** How far the measurement of a preference run's reference is: the model as it was before the first update. */
export interface ReferenceScored {
  /** Pairs, held-out ones among them. */
  done: number;
  total: number;
  /** Of this attempt. */
  seconds: number;
  /** True where all of it was read from an earlier attempt's files. */
  reused: boolean;
}

/** A resume state is complete on disk. */
export interface ResumeSaved {
  step: number;
  bytes: number;
  seconds: number;
}

/** A callable checkpoint is complete on disk and registered. */
export interface CheckpointSaved {
  step: number;
  epoch: number;
  model_name: string;
  bytes: number;
}

/** Base beside tuned on the validation file. */
export interface Evaluated {
  /** See ``evaluation/report.py``. */
  report: Record<string, unknown>;
}

/** Tier A of the prediction trace for one unseen prompt. */
export interface PredictionTraced {
  /** ``prompt``, ``tokens``, ``base`` and ``tuned`` (each ``answer`` and ``path`` of token, probability, top). */
  prediction: Record<string, unknown>;
}

/** The final model is on disk, checksummed, loaded and warm. */
export interface ModelPublished {
  model_name: string;
  bytes: number;
  load_seconds: number;
  first_token_seconds: number;
  tokens_per_second: number;
}

/** What the job will take; made before the first step, and once more when the first steps are measured. */
export interface Forecasted {
  /** See ``core/forecast.py``. */
  forecast: Record<string, unknown>;
  /** When the job will likely be done, Unix seconds. */
  finish_at: number;
}

/** At a job's end: the latest forecast beside what came of it. Not told of a run that was resumed. */
export interface ForecastChecked {
  /** What the forecast rested on: ``formula`` or ``first_steps``. */
  basis: string;
  /** Low, likely, high. */
  forecast_seconds: [number, number, number];
  /** From the trainer's start to the answering model. */
  seconds: number;
  /** Low, likely, high. */
  forecast_bytes: [number, number, number];
  /** Largest resident memory of the training process. */
  peak_bytes: number;
  forecast_tokens: number;
  /** Of all rows over all epochs, as trained. */
  tokens: number;
}

/** A plain sentence for the reader of the log. */
export interface Notice {
  /** info, warn or error. */
  level: string;
  message: string;
}

/** The job reached a final status. */
export interface RunFinished {
  status: string;
  error: Record<string, unknown> | null;
}

/** Name of an event's type -> its payload. */
export interface Payloads {
  RunStarted: RunStarted;
  StageStarted: StageStarted;
  StageFinished: StageFinished;
  SpecResolved: SpecResolved;
  RangeTested: RangeTested;
  StepDone: StepDone;
  EpochDone: EpochDone;
  StepSkipped: StepSkipped;
  LossSpiked: LossSpiked;
  ModelChosen: ModelChosen;
  PromptsAnswered: PromptsAnswered;
  BaseMeasured: BaseMeasured;
  ReferenceScored: ReferenceScored;
  ResumeSaved: ResumeSaved;
  CheckpointSaved: CheckpointSaved;
  Evaluated: Evaluated;
  PredictionTraced: PredictionTraced;
  ModelPublished: ModelPublished;
  Forecasted: Forecasted;
  ForecastChecked: ForecastChecked;
  Notice: Notice;
  RunFinished: RunFinished;
}

interface Envelope {
  schema: number;
  /** Grows by one within a run, across attempts. */
  id: number;
  run: string;
  attempt: number;
  /** Unix seconds. */
  time: number;
  stage: Stage;
}

/** One line of the log. */
export type TraceEvent = { [K in keyof Payloads]: Envelope & { type: K; data: Payloads[K] } }[keyof Payloads];
