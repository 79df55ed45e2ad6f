"""The one data object behind every view of a job: events in, state out.

What it does: folds events one by one; of a step or an epoch that a resumed run repeats, the later attempt wins. What it does
not: invent anything: what no event told stays None. Called by the terminal trace and by the dashboard's API.

Shapes that cross rooms:

``PredictionTraced.prediction`` (tier A)::

    {"prompt": str, "held_out": bool, "prompt_tokens": [{"text", "kind", "role", "id"}],
     "base":  {"answer": str, "path": [{"token": str, "probability": float, "top": [{"token", "probability"} x up to 20]}]},
     "tuned": the same}

The end token is the path's last entry, marked ``"end": true``, where the model ended the answer itself.

``Evaluated.report``::

    {"n": int, "base": {"loss", "accuracy", "exact_match"}, "tuned": the same,
     "better": int, "worse": int, "same": int, "samples": [{"prompt", "expected", "base", "tuned"}, ...],
     "preference": only with pairs of answers, see ``evaluation/preference.py``}
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from luthier.core.stage import Stage
from luthier.trace import events as e
from luthier.trace.observations import observe
from luthier.trace.step_watch import StepFacts, watched


@dataclass(slots=True)
class StageView:
    """One of the five stages, as far as it has come."""

    stage: Stage
    status: str = "waiting"
    """waiting, running or done."""
    shape_in: str | None = None
    started_at: float | None = None
    """Unix seconds."""
    report: e.StageFinished | None = None


@dataclass(slots=True)
class TraceView:
    """A job as its events tell it."""

    run: str | None = None
    last_id: int = 0
    started: e.RunStarted | None = None
    """The latest attempt's."""
    resumed_from: list[int] = field(default_factory=list)
    """Steps from which later attempts went on."""
    stages: dict[Stage, StageView] = field(default_factory=lambda: {s: StageView(s) for s in Stage})
    spec: e.SpecResolved | None = None
    range_test: e.RangeTested | None = None
    """Not in ``to_dict``: the terminal's trace alone draws it."""
    base: e.BaseMeasured | None = None
    reference: e.ReferenceScored | None = None
    """How far the reference of a preference run is."""
    steps: dict[int, e.StepDone] = field(default_factory=dict)
    step_facts: dict[int, StepFacts] = field(default_factory=dict)
    """What was found of an epoch's steps, by epoch, where they themselves were not read (``story.py``)."""
    first_step_at: float | None = None
    """When the first step of all was done, Unix seconds."""
    epochs: dict[int, e.EpochDone] = field(default_factory=dict)
    answers: dict[int, e.PromptsAnswered] = field(default_factory=dict)
    """The fixed prompts by epoch; 0 is the base."""
    checkpoints: dict[int, e.CheckpointSaved] = field(default_factory=dict)
    resume: e.ResumeSaved | None = None
    evaluation: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    published: e.ModelPublished | None = None
    forecast: dict[str, Any] | None = None
    """The latest one, as ``core/forecast.py`` has it."""
    forecast_checked: e.ForecastChecked | None = None
    notices: list[e.Notice] = field(default_factory=list)
    finished: e.RunFinished | None = None

    def apply(self, event: e.TraceEvent) -> None:
        """Take one event; events already taken (by id) are ignored."""
        if event.id <= self.last_id:
            return
        self.last_id = event.id
        self.run = event.run
        fold = _FOLDS.get(type(event.payload))
        if fold is not None:
            fold(self, event, event.payload)

    def ordered_steps(self) -> list[e.StepDone]:
        """One entry per step, in order."""
        return [self.steps[n] for n in sorted(self.steps)]

    def ordered_epochs(self) -> list[e.EpochDone]:
        """One entry per epoch, in order."""
        return [self.epochs[n] for n in sorted(self.epochs)]

    def observations(self) -> dict[int, str]:
        """Epoch -> its observation."""
        epochs, by_epoch = self.ordered_epochs(), dict[int, list[e.StepDone]]()
        for step in self.ordered_steps():
            by_epoch.setdefault(step.epoch, []).append(step)
        first = self.steps.get(1)
        start = None if first is None else first.loss
        known = {row.epoch: self.step_facts.get(row.epoch) or watched(by_epoch.get(row.epoch, ()), start) for row in epochs}
        return {row.epoch: observe(epochs[: i + 1], base=self.base, known=known[row.epoch]) for i, row in enumerate(epochs)}

    def to_dict(self) -> dict[str, Any]:
        """Plain values: what golden tests compare and pages are drawn from."""
        observations = self.observations()
        return {
            "run": self.run,
            "last_id": self.last_id,
            "started": _plain(self.started),
            "resumed_from": list(self.resumed_from),
            "stages": [
                {"stage": s.stage.value, "status": s.status, "shape_in": s.shape_in, "report": _plain(s.report)}
                for s in self.stages.values()
            ],
            "spec": _plain(self.spec),
            "base": _plain(self.base),
            "reference": _plain(self.reference),
            "first_step_at": self.first_step_at,
            "steps": [_plain(s) for s in self.ordered_steps()],
            "epochs": [{**(_plain(row) or {}), "observation": observations[row.epoch]} for row in self.ordered_epochs()],
            "answers": [_plain(self.answers[n]) for n in sorted(self.answers)],
            "checkpoints": [_plain(self.checkpoints[n]) for n in sorted(self.checkpoints)],
            "resume": _plain(self.resume),
            "evaluation": self.evaluation,
            "prediction": self.prediction,
            "published": _plain(self.published),
            "forecast": self.forecast,
            "forecast_checked": _plain(self.forecast_checked),
            "notices": [_plain(n) for n in self.notices],
            "finished": _plain(self.finished),
        }


def view_of(events: Iterable[e.TraceEvent]) -> TraceView:
    """The view of a whole log."""
    view = TraceView()
    for event in events:
        view.apply(event)
    return view


def _plain(payload: Any) -> dict[str, Any] | None:
    return None if payload is None else dataclasses.asdict(payload)


def _run_started(view: TraceView, event: e.TraceEvent, payload: e.RunStarted) -> None:
    if payload.resumed_from_step:
        view.resumed_from.append(payload.resumed_from_step)
    view.started = payload
    view.finished = None


def _stage_started(view: TraceView, event: e.TraceEvent, payload: e.StageStarted) -> None:
    stage = view.stages[event.stage]
    stage.shape_in, stage.started_at = payload.shape_in, event.time
    # A resumed run walks through earlier stages again; what they reported the first time stays until they report anew.
    stage.status = "running"


def _stage_finished(view: TraceView, event: e.TraceEvent, payload: e.StageFinished) -> None:
    stage = view.stages[event.stage]
    stage.status, stage.shape_in, stage.report = "done", payload.shape_in, payload


def _spec(view: TraceView, event: e.TraceEvent, payload: e.SpecResolved) -> None:
    view.spec = payload


def _range_test(view: TraceView, event: e.TraceEvent, payload: e.RangeTested) -> None:
    view.range_test = payload


def _base(view: TraceView, event: e.TraceEvent, payload: e.BaseMeasured) -> None:
    view.base = payload


def _reference(view: TraceView, event: e.TraceEvent, payload: e.ReferenceScored) -> None:
    view.reference = payload


def _step(view: TraceView, event: e.TraceEvent, payload: e.StepDone) -> None:
    view.steps[payload.step] = payload
    if view.first_step_at is None:
        view.first_step_at = event.time


def _epoch(view: TraceView, event: e.TraceEvent, payload: e.EpochDone) -> None:
    view.epochs[payload.epoch] = payload


def _answers(view: TraceView, event: e.TraceEvent, payload: e.PromptsAnswered) -> None:
    view.answers[payload.epoch] = payload


def _resume(view: TraceView, event: e.TraceEvent, payload: e.ResumeSaved) -> None:
    view.resume = payload


def _checkpoint(view: TraceView, event: e.TraceEvent, payload: e.CheckpointSaved) -> None:
    view.checkpoints[payload.step] = payload


def _evaluated(view: TraceView, event: e.TraceEvent, payload: e.Evaluated) -> None:
    view.evaluation = payload.report


def _predicted(view: TraceView, event: e.TraceEvent, payload: e.PredictionTraced) -> None:
    view.prediction = payload.prediction


def _published(view: TraceView, event: e.TraceEvent, payload: e.ModelPublished) -> None:
    view.published = payload


def _forecasted(view: TraceView, event: e.TraceEvent, payload: e.Forecasted) -> None:
    view.forecast = payload.forecast


def _forecast_checked(view: TraceView, event: e.TraceEvent, payload: e.ForecastChecked) -> None:
    view.forecast_checked = payload


def _notice(view: TraceView, event: e.TraceEvent, payload: e.Notice) -> None:
    view.notices.append(payload)


def _finished(view: TraceView, event: e.TraceEvent, payload: e.RunFinished) -> None:
    view.finished = payload


_FOLDS: dict[type, Callable[[TraceView, e.TraceEvent, Any], None]] = {
    e.RunStarted: _run_started,
    e.StageStarted: _stage_started,
    e.StageFinished: _stage_finished,
    e.SpecResolved: _spec,
    e.RangeTested: _range_test,
    e.BaseMeasured: _base,
    e.ReferenceScored: _reference,
    e.StepDone: _step,
    e.EpochDone: _epoch,
    e.PromptsAnswered: _answers,
    e.ResumeSaved: _resume,
    e.CheckpointSaved: _checkpoint,
    e.Evaluated: _evaluated,
    e.PredictionTraced: _predicted,
    e.ModelPublished: _published,
    e.Forecasted: _forecasted,
    e.ForecastChecked: _forecast_checked,
    e.Notice: _notice,
    e.RunFinished: _finished,
}
