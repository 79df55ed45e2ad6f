"""What a job will take, as numbers: the forecast, and what was measured beside it at the job's end.

What it does: plain records and their way to JSON. What it does not: compute (``training/forecast.py``) or price
(``core/prices.py``). Made by ``training`` and ``worker``, shown by ``cli``; travels in the trace as ``JobForecast``.
"""

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Basis(StrEnum):
    """What a forecast rests on, from the roughest to the best."""

    FORMULA = "formula"
    """Arithmetic of the model and the measured speed of one matrix product."""
    DRY_RUN = "dry_run"
    """Steps, saves and answers that were carried out on this device, and thrown away."""
    STEPS = "first_steps"
    """The first steps of the job itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A number that is not known exactly: most likely value, and an interval around it."""

    low: float
    likely: float
    high: float

    def __add__(self, other: "Span") -> "Span":
        return Span(low=self.low + other.low, likely=self.likely + other.likely, high=self.high + other.high)

    def times(self, factor: float) -> "Span":
        """All three times a factor of at least 0."""
        return Span(low=self.low * factor, likely=self.likely * factor, high=self.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePart:
    """One part of the job's time."""

    name: str
    """``start``, ``range_test`` (if any), ``base``, ``steps``, ``validation``, ``prompts``, ``saves``, ``evaluation`` or ``deployment``."""
    seconds: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthBucket:
    """The steps of one epoch whose longest row lies between two lengths."""

    shortest: int
    """Tokens of the longest row of the bucket's smallest step."""
    longest: int
    """Tokens of the longest row of its largest step."""
    steps: int
    """Of one epoch."""
    seconds: float
    """Mean time of one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What one job will take. Token counts and steps are exact; times and memory are estimates."""

    basis: Basis
    examples: int
    """Examples that are trained on."""
    n_epochs: int
    batch_size: int
    steps_per_epoch: int
    total_steps: int
    tokens_per_epoch: int
    """Tokens of all rows after cutting, padding not counted."""
    trained_per_epoch: int
    """Those of them that count in the loss."""
    tokens: int
    """Over all epochs: what the job reports as ``trained_tokens``."""
    longest: int
    """Tokens of the longest row after cutting."""
    seconds: Span
    """From the trainer's start to the answering model."""
    parts: tuple[TimePart, ...]
    buckets: tuple[LengthBucket, ...]
    peak_bytes: Span
    """Largest resident memory of the training process."""
    available_bytes: int
    """What a training process may take here; see ``LUTHIER_TRAIN_MEMORY_BYTES``."""
    watts: float | None = None
    """Mean power of the device while it trained, where it reports one."""

    @property
    def fits(self) -> bool:
        """True unless even the low end of the interval is more than there is."""
        return self.peak_bytes.low <= self.available_bytes

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON gives them back."""
        plain = dataclasses.asdict(self)
        return plain | {"parts": list(plain["parts"]), "buckets": list(plain["buckets"])}


def forecast_from_dict(plain: dict[str, Any]) -> Forecast:
    """The inverse of ``Forecast.to_dict``."""
    known = {name: plain[name] for name in (f.name for f in dataclasses.fields(Forecast)) if name in plain}
    return Forecast(
        **known
        | {
            "basis": Basis(plain["basis"]),
            "seconds": Span(**plain["seconds"]),
            "peak_bytes": Span(**plain["peak_bytes"]),
            "parts": tuple(TimePart(name=part["name"], seconds=Span(**part["seconds"])) for part in plain["parts"]),
            "buckets": tuple(LengthBucket(**bucket) for bucket in plain["buckets"]),
        }
    )
