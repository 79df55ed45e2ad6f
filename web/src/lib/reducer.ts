/**
 * Events in, state out: the twin of `src/luthier/trace/view.py`, held to it by the logs in tests/golden/trace. Pure.
 *
 * A reducer may begin from nothing (a whole log) or from the view that the server sends, whose steps stay on the server: then the
 * observations of epochs that were done before stay as the server wrote them, and only later ones are made here.
 */

import { STAGES, type EpochDone, type Payloads, type TraceEvent } from '../api/trace';
import type { EpochRow, Evaluation, RecordedPrediction, TraceView } from '../api/types';
import { observe } from './observations';

/** The view before the first event. */
export function emptyView(): TraceView {
  return {
    run: null,
    last_id: 0,
    started: null,
    resumed_from: [],
    stages: STAGES.map((stage) => ({ stage, status: 'waiting', shape_in: null, report: null })),
    spec: null,
    base: null,
    reference: null,
    first_step_at: null,
    steps: [],
    epochs: [],
    answers: [],
    checkpoints: [],
    resume: null,
    evaluation: null,
    prediction: null,
    published: null,
    forecast: null,
    forecast_checked: null,
    notices: [],
    finished: null,
  };
}

/** The view after these events, as a new object; parts that did not change are shared with the old one. Events already taken (by id) are ignored. */
export function apply(view: TraceView, events: Iterable<TraceEvent>): TraceView {
  const next = { ...view };
  // Only these can change what an epoch means.
  let observed = next.epochs.length;
  for (const event of events) {
    if (event.id <= next.last_id) continue;
    next.last_id = event.id;
    next.run = event.run;
    const fold = FOLDS[event.type] as ((view: TraceView, event: TraceEvent, data: unknown) => void) | undefined;
    fold?.(next, event, event.data);
    if (event.type === 'EpochDone') observed = Math.min(observed, next.epochs.findIndex((row) => row.epoch === event.data.epoch));
    if (event.type === 'BaseMeasured') observed = 0;
    // An epoch's steps come before it, except where a resumed run repeats them.
    if (event.type === 'StepDone') observed = Math.min(observed, firstTouched(next, event.data.epoch));
  }
  if (observed < next.epochs.length) next.epochs = next.epochs.map((row, i) => (i < observed ? row : spoken(next, row, i)));
  return next;
}

/** The view of a whole log. */
export function viewOf(events: Iterable<TraceEvent>): TraceView {
  return apply(emptyView(), events);
}

function firstTouched(view: TraceView, epoch: number): number {
  const at = view.epochs.findIndex((row) => row.epoch >= epoch);
  return at < 0 ? view.epochs.length : at;
}

function spoken(view: TraceView, row: EpochRow, i: number): EpochRow {
  // A loss that is no number comes as null; the first rule looks for it.
  return { ...row, observation: observe(view.epochs.slice(0, i + 1) as EpochDone[], view.base, view.steps) };
}

/** A copy with the row put at its number's place; a later attempt's takes the place of an earlier one's. */
function placed<T>(rows: readonly T[], row: T, key: (row: T) => number): T[] {
  const number = key(row);
  let at = rows.length;
  while (at > 0 && key(rows[at - 1]!) >= number) at -= 1;
  const same = at < rows.length && key(rows[at]!) === number;
  return rows.toSpliced(at, same ? 1 : 0, row);
}

function staged(view: TraceView, event: TraceEvent, change: Partial<TraceView['stages'][number]>): void {
  view.stages = view.stages.map((stage) => (stage.stage === event.stage ? { ...stage, ...change } : stage));
}

type Folds = { [K in keyof Payloads]?: (view: TraceView, event: TraceEvent, data: Payloads[K]) => void };

const FOLDS: Folds = {
  RunStarted(view, _, data) {
    if (data.resumed_from_step) view.resumed_from = [...view.resumed_from, data.resumed_from_step];
    view.started = data;
    view.finished = null;
  },
  // A resumed run walks through earlier stages again; what they reported the first time stays until they report anew.
  StageStarted: (view, event, data) => staged(view, event, { status: 'running', shape_in: data.shape_in }),
  StageFinished: (view, event, data) => staged(view, event, { status: 'done', shape_in: data.shape_in, report: data }),
  SpecResolved: (view, _, data) => (view.spec = data as unknown as TraceView['spec']),
  BaseMeasured: (view, _, data) => (view.base = data),
  ReferenceScored: (view, _, data) => (view.reference = data),
  StepDone(view, event, data) {
    view.steps = placed(view.steps, data, (step) => step.step);
    view.first_step_at ??= event.time;
  },
  EpochDone: (view, _, data) => (view.epochs = placed(view.epochs, { ...data, observation: '' }, (row) => row.epoch)),
  PromptsAnswered: (view, _, data) =>
    (view.answers = placed(view.answers, data as unknown as TraceView['answers'][number], (row) => row.epoch)),
  ResumeSaved: (view, _, data) => (view.resume = data),
  CheckpointSaved: (view, _, data) => (view.checkpoints = placed(view.checkpoints, data, (row) => row.step)),
  Evaluated: (view, _, data) => (view.evaluation = data.report as unknown as Evaluation),
  PredictionTraced: (view, _, data) => (view.prediction = data.prediction as unknown as RecordedPrediction),
  ModelPublished: (view, _, data) => (view.published = data),
  Forecasted: (view, _, data) => (view.forecast = data.forecast),
  ForecastChecked: (view, _, data) => (view.forecast_checked = data),
  Notice: (view, _, data) => (view.notices = [...view.notices, data]),
  RunFinished: (view, _, data) => (view.finished = data),
};
