"""OpenAI's job events and result file, made from the run's own events (reference, sections 2.3, 2.5, 2.7).

What it does: wording and keys, to the letter (user scripts grep the texts). What it does not: store them
(``worker/recorder.py``) or decide a status. Called by ``worker/recorder.py`` and ``worker/results.py``.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from luthier.core.jobs import NewEvent
from luthier.trace.events import (
    CheckpointSaved,
    EpochDone,
    ForecastChecked,
    Forecasted,
    LossSpiked,
    ModelChosen,
    ModelPublished,
    Notice,
    RangeTested,
    ReferenceScored,
    RunFinished,
    RunStarted,
    SpecResolved,
    StepDone,
    StepSkipped,
    TraceEvent,
)

HELD_SECONDS = 0.6
"""So long an epoch's last step waits for the validation that it is told with; a longer one brings a second event for the step."""
OWN_METRICS = (
    "learning_rate",
    "grad_norm",
    "tokens",
    "tokens_per_second",
    "padding_share",
    "memory_bytes",
    "flops_utilization",
    "seconds",
)
"""Of a step's numbers those that OpenAI's metrics have no key for; they stand under ``luthier`` in an event's data."""
_NAMED_LINES = 10
CSV_COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")
PREFERENCE_COLUMNS = ("reward_accuracy", "reward_margin", "reward_chosen", "reward_rejected")
"""Behind the others where the job learns from pairs: each for the training and the validation batch."""


class JobEventProjection:
    """Turns the events of one attempt into public ones.

    The public event of an epoch's last step tells the full validation too, which is measured after the step: that step is held
    until its ``EpochDone``, or until ``overdue`` lets it go. A step that went without it is told again, with it, when the epoch is
    done. Where epochs end is known from the spec or from an earlier epoch; an attempt that knows neither lets the step go at once.
    """

    def __init__(self) -> None:
        self._steps_per_epoch: int | None = None
        self._held: StepDone | None = None
        self._held_since = 0.0
        self._gone: StepDone | None = None
        self._resumed = False

    def push(self, event: TraceEvent) -> tuple[NewEvent, ...]:
        """The public events that one trace event brings, oldest first."""
        now, payload = int(event.time), event.payload
        if isinstance(payload, StepDone):
            return self._step(event.time, payload)
        if isinstance(payload, EpochDone):
            return self._epoch(now, payload)
        if isinstance(payload, RunStarted):
            self._resumed = payload.resumed_from_step > 0
            return _run_started(now, payload)
        if isinstance(payload, SpecResolved):
            self._steps_per_epoch = payload.spec.get("steps_per_epoch")
            return () if self._resumed else _decisions(now, payload)
        return _simple(now, event)

    @property
    def held_until(self) -> float | None:
        """When a step that is held must go, Unix seconds; None while none is held."""
        return None if self._held is None else self._held_since + HELD_SECONDS

    def overdue(self, now: float) -> tuple[NewEvent, ...]:
        """The held step, once it has waited long enough."""
        until = self.held_until
        if self._held is None or until is None or now < until:
            return ()
        self._gone, self._held = self._held, None
        return (step_event(int(self._held_since), self._gone, None),)

    def _step(self, now: float, step: StepDone) -> tuple[NewEvent, ...]:
        released = () if self._held is None else (step_event(int(now), self._held, None),)
        self._held = self._gone = None
        ends_epoch = step.step == step.total_steps or (self._steps_per_epoch and step.step % self._steps_per_epoch == 0)
        if ends_epoch:
            self._held, self._held_since = step, now
            return released
        return (*released, step_event(int(now), step, None))

    def _epoch(self, now: int, epoch: EpochDone) -> tuple[NewEvent, ...]:
        if epoch.step % epoch.epoch == 0:
            self._steps_per_epoch = epoch.step // epoch.epoch
        held, gone = self._held, self._gone
        self._held = self._gone = None
        if held is not None:
            return (step_event(now, held, epoch if held.step == epoch.step else None),)
        if gone is not None and gone.step == epoch.step and epoch.valid_loss is not None:
            return (step_event(now, gone, epoch),)
        return ()


def step_event(created_at: int, step: StepDone, epoch: EpochDone | None) -> NewEvent:
    """The metrics event of one step; ``epoch`` for an epoch's last one."""
    message = f"Step {step.step}/{step.total_steps}: training loss={step.loss:.2f}"
    data: dict[str, Any] = {
        "step": step.step,
        "total_steps": step.total_steps,
        "train_loss": step.loss,
        "train_mean_token_accuracy": step.token_accuracy,
        **_preference("train", step.preference),
    }
    if step.valid_loss is not None:
        message += f", validation loss={step.valid_loss:.2f}"
        data["valid_loss"] = step.valid_loss
        data["valid_mean_token_accuracy"] = step.valid_accuracy
        data |= _preference("valid", step.valid_preference)
    if epoch is not None and epoch.valid_loss is not None:
        message += f", full validation loss={epoch.valid_loss:.2f}"
        data["full_valid_loss"] = epoch.valid_loss
        data["full_valid_mean_token_accuracy"] = epoch.valid_accuracy
        data |= _preference("full_valid", epoch.valid_preference)
    own = {name: value for name in OWN_METRICS if (value := getattr(step, name)) is not None}
    if step.tokens is not None:
        data["luthier"] = own
    return NewEvent(created_at=created_at, level="info", message=message, type="metrics", data=data)


def _preference(prefix: str, means: dict[str, float] | None) -> dict[str, float]:
    """The metrics of pairs, named as a checkpoint's are."""
    return {f"{prefix}_{name}": value for name, value in (means or {}).items()}


def checkpoint_event(created_at: int, saved: CheckpointSaved) -> NewEvent:
    """The event of a checkpoint that answers by its name."""
    return _info(created_at, f"Checkpoint created at step {saved.step} with Snapshot ID: {saved.model_name}")


def _info(created_at: int, message: str) -> NewEvent:
    return NewEvent(created_at=created_at, level="info", message=message)


def _run_started(now: int, payload: RunStarted) -> tuple[NewEvent, ...]:
    if payload.resumed_from_step:
        return (_info(now, f"Fine-tuning job resumed after step {payload.resumed_from_step}"),)
    asked = "" if payload.base == payload.model else f" (asked for as {payload.model})"
    return (_info(now, "Fine-tuning job started"), _info(now, f"The open model {payload.base} is being trained{asked}"))


def _decisions(now: int, payload: SpecResolved) -> tuple[NewEvent, ...]:
    return tuple(_info(now, f"Decided {d['name']} = {_number(d['value'])}: {d['reason']}") for d in payload.decisions)


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def _simple(now: int, event: TraceEvent) -> tuple[NewEvent, ...]:
    payload = event.payload
    if isinstance(payload, CheckpointSaved):
        return (checkpoint_event(now, payload),)
    if isinstance(payload, ModelPublished):
        return (_info(now, f"New fine-tuned model created: {payload.model_name}"),)
    if isinstance(payload, RunFinished) and payload.status == "succeeded":
        return (_info(now, "The job has successfully completed"),)
    if isinstance(payload, Forecasted):
        return (_info(now, _forecast_text(payload)),)
    if isinstance(payload, ForecastChecked):
        return (_info(now, _checked_text(payload)),)
    if isinstance(payload, RangeTested):
        return (_info(now, _range_text(payload)),)
    if isinstance(payload, ReferenceScored):
        return (_info(now, _reference_text(payload)),)
    if isinstance(payload, StepSkipped):
        return (NewEvent(created_at=now, level="warn", message=_skipped_text(payload)),)
    if isinstance(payload, LossSpiked):
        return (NewEvent(created_at=now, level="warn", message=_spike_text(payload)),)
    if isinstance(payload, ModelChosen):
        return (_info(now, chosen_text(payload)),)
    if isinstance(payload, Notice):
        return (NewEvent(created_at=now, level=payload.level, message=payload.message),)
    return ()


def _range_text(payload: RangeTested) -> str:
    points = len(payload.rates)
    took = f"Range test of the learning rate: {points} of {payload.steps} steps in {payload.seconds:.1f} s"
    if not points:
        return f"{took}; the automatic rate {payload.base_rate:.3g} stays"
    span = f"from {payload.rates[0]:.2g} to {payload.rates[-1]:.2g}"
    if payload.lowest_rate is None:
        return f"{took}, {span}; the automatic rate {payload.base_rate:.3g} stays"
    change = payload.curve[payload.rates.index(payload.lowest_rate)]
    return f"{took}, {span}: loss lowest at {payload.lowest_rate:.2g} ({change:+.2f} to the start); {payload.learning_rate:.3g} is taken"


def _reference_text(payload: ReferenceScored) -> str:
    pairs = f"{payload.total:,} pairs"
    if payload.reused:
        return f"Reference log-probabilities of {pairs} read from an earlier attempt"
    if payload.done == payload.total:
        return f"Reference log-probabilities of {pairs} measured in {payload.seconds:.1f} s"
    return f"Reference log-probabilities: {payload.done:,} of {pairs} measured"


def _lines(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:_NAMED_LINES])) + (" and others" if len(lines) > _NAMED_LINES else "")
    return f"line{'' if len(lines) == 1 else 's'} {shown}"


def _skipped_text(payload: StepSkipped) -> str:
    return (
        f"Step {payload.step}/{payload.total_steps} skipped: its {payload.what} is not a finite number (training {_lines(payload.lines)}). "
        f"Weights and optimizer stayed as they were; {payload.in_row} of at most {payload.allowed} in a row"
    )


def _spike_text(payload: LossSpiked) -> str:
    rate = f"; the learning rate is halved from here on, to {payload.rate_factor:g} of its schedule" if payload.halved else ""
    return (
        f"The loss jumped to {payload.loss:.2f} at step {payload.step} (usually {payload.usual:.2f}, bound {payload.bound:.2f}): "
        f"look at {_lines(payload.lines)}{rate}"
    )


def chosen_text(payload: ModelChosen) -> str:
    """Why a run ended where it did, and whose weights it keeps."""
    early = payload.last_epoch < payload.n_epochs
    ended = ""
    if early:
        waited = payload.last_epoch - payload.best_epoch
        than = f"at least {payload.min_delta:g} lower" if payload.min_delta else "lower"
        since = "1 epoch" if waited == 1 else f"{waited} epochs"
        ended = f"Training ended after epoch {payload.last_epoch} of {payload.n_epochs}: for {since} no held-out loss was {than}. "
    if payload.best_loss is None:
        return f"{ended}No held-out loss was a finite number: the last checkpoint (step {payload.step}) becomes the model"
    best = f"The held-out loss was lowest after epoch {payload.best_epoch} ({payload.best_loss:.4f})"
    if payload.step != payload.last_step:
        return f"{ended}{best}: the weights of step {payload.step} become the model, not those of step {payload.last_step}"
    which = "the last checkpoint" if payload.best_epoch == payload.last_epoch else "as asked, the last checkpoint all the same"
    return f"{ended}{best}: {which} (step {payload.step}) becomes the model"


_BASES = {"formula": "by formula", "first_steps": "by the first steps"}


def _forecast_text(payload: Forecasted) -> str:
    made = payload.forecast
    seconds, peak = made["seconds"], made["peak_bytes"]
    return (
        f"Forecast {_BASES.get(made['basis'], made['basis'])}: {made['total_steps']:,} steps, {made['tokens']:,} tokens, about "
        f"{seconds['likely']:,.0f} s ({seconds['low']:,.0f} to {seconds['high']:,.0f}), {peak['likely'] / 1e9:.2f} GB of memory"
    )


def _checked_text(payload: ForecastChecked) -> str:
    basis = _BASES.get(payload.basis, payload.basis)
    return (
        f"Forecast {basis} and actual: {payload.forecast_seconds[1]:,.0f} s and {payload.seconds:,.0f} s, "
        f"{payload.forecast_bytes[1] / 1e9:.2f} GB and {payload.peak_bytes / 1e9:.2f} GB, "
        f"{payload.forecast_tokens:,} and {payload.tokens:,} tokens"
    )


def metrics_csv(steps: Iterable[StepDone]) -> str:
    """The result file: one row per step in step order, at most five decimals, empty where nothing was measured. OpenAI's columns come
    first, those of ``PREFERENCE_COLUMNS`` after them where the job has any.

    Of a step that stands there twice, the later one wins: a resumed run repeats some.
    """
    latest = {step.step: step for step in steps}
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    own = PREFERENCE_COLUMNS if any(step.preference for step in latest.values()) else ()
    rows.writerow([*CSV_COLUMNS, *(f"{prefix}_{name}" for prefix in ("train", "valid") for name in own)])
    for number in sorted(latest):
        step = latest[number]
        values = [step.loss, step.token_accuracy, step.valid_loss, step.valid_accuracy]
        values += [(means or {}).get(name) for means in (step.preference, step.valid_preference) for name in own]
        rows.writerow([number, *map(_cell, values)])
    return text.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None else str(round(value, 5))
