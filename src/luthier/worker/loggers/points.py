"""What loggers are told of a run, made from its events: points of numbers by step, the settings, the verdict.

What it does: names, and once each: a step or an epoch that a resumed run repeats was told before. What it does not: send anything.
Pure but for its place in the run, which ``follower.py`` keeps on the disk.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from luthier.trace.events import BaseMeasured, EpochDone, Evaluated, RunFinished, RunStarted, SpecResolved, StepDone, TraceEvent

_NAMES = {
    "loss": "train/loss",
    "token_accuracy": "train/token_accuracy",
    "valid_loss": "valid/loss",
    "valid_accuracy": "valid/token_accuracy",
    "tokens": "perf/tokens",
    "tokens_per_second": "perf/tokens_per_second",
    "padding_share": "perf/padding_share",
    "memory_bytes": "perf/memory_bytes",
    "flops_utilization": "perf/flops_utilization",
    "seconds": "perf/step_seconds",
}
"""Of ``StepDone``'s fields; every other number of it, those of a method's own included, stands under ``train/``."""
_EPOCH_NAMES = {
    "train_loss": "epoch/train_loss",
    "train_accuracy": "epoch/train_token_accuracy",
    "valid_loss": "epoch/valid_loss",
    "valid_accuracy": "epoch/valid_token_accuracy",
    "sample_loss": "epoch/sample_loss",
    "seconds": "epoch/seconds",
}
_POSITIONS = ("step", "total_steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Numbers of one moment."""

    step: int
    time: float
    """Unix seconds."""
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one event brings: any of these."""

    point: Point | None = None
    config: dict[str, Any] | None = None
    """Settings of the run, to be added to those before."""
    summary: dict[str, float] | None = None
    status: str | None = None
    """The job's final one."""


@dataclass(slots=True)
class Place:
    """How far a follower is."""

    last_id: int = 0
    """Of the last event that was told."""
    last_step: int = -1
    last_epoch: int = 0

    def take(self, event: TraceEvent) -> Told | None:
        """What to tell of the event; None for nothing. Moves on."""
        if event.id <= self.last_id:
            return None
        self.last_id = event.id
        payload = event.payload
        if isinstance(payload, StepDone):
            return self._step(event.time, payload)
        if isinstance(payload, EpochDone):
            return self._epoch(event.time, payload)
        if isinstance(payload, BaseMeasured):
            name = "base/valid" if payload.held_out else "base/train"
            metrics = {f"{name}_loss": payload.loss, f"{name}_token_accuracy": payload.accuracy}
            return self._first(event.time, _finite(metrics))
        if isinstance(payload, RunStarted):
            return Told(config={"model": payload.model, "base": payload.base})
        if isinstance(payload, SpecResolved):
            counts = {"trainable_parameters": payload.trainable_parameters, "total_parameters": payload.total_parameters}
            return Told(config={**payload.spec, **counts})
        if isinstance(payload, Evaluated):
            return Told(summary=_summary(payload.report))
        return Told(status=payload.status) if isinstance(payload, RunFinished) else None

    def _first(self, time: float, metrics: dict[str, float]) -> Told | None:
        if self.last_step >= 0:
            return None
        self.last_step = 0
        return Told(point=Point(step=0, time=time, metrics=metrics))

    def _step(self, time: float, step: StepDone) -> Told | None:
        if step.step <= self.last_step:
            return None
        self.last_step = step.step
        numbers = {f.name: getattr(step, f.name) for f in dataclasses.fields(step) if f.name not in _POSITIONS}
        metrics = _finite({_NAMES.get(name, f"train/{name}"): value for name, value in numbers.items()})
        return Told(point=Point(step=step.step, time=time, metrics=metrics))

    def _epoch(self, time: float, epoch: EpochDone) -> Told | None:
        if epoch.epoch <= self.last_epoch:
            return None
        self.last_epoch = epoch.epoch
        return Told(point=Point(step=epoch.step, time=time, metrics=_finite({to: getattr(epoch, of) for of, to in _EPOCH_NAMES.items()})))


def _finite(values: Mapping[str, object]) -> dict[str, float]:
    """The numbers among the values; what was not measured, or is no number any more, is left out."""
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float) and math.isfinite(value)}


def _summary(report: Mapping[str, Any]) -> dict[str, float]:
    sides = {f"evaluation/{side}_{name}": value for side in ("base", "tuned") for name, value in (report.get(side) or {}).items()}
    return _finite({**sides, **{f"evaluation/{name}": report.get(name) for name in ("n", "better", "worse", "same")}})
