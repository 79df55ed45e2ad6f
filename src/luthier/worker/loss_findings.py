"""What the base's losses say about rows: those that it predicts already, and those that it finds bizarre.

What it does: judges losses that were measured, in numbers and in findings for the doctor's report. What it does not: measure
(``row_losses.py``). No torch.

A row is *already predicted* when every token of its answer is the base's first choice and the mean loss is below
``PREDICTED_LOSS``. It is *bizarre* when its answer has at least ``MIN_TOKENS`` tokens (a single label surprises every base) and
its loss is either above ``ln(vocabulary)``, worse than guessing at random, or far from the file's other rows: above the median
by more than ``DEVIATIONS`` robust standard deviations (1.4826 times the median distance to the median) and by more than
``MIN_DISTANCE``, and above half of ``ln(vocabulary)``. Nothing is far from fewer than ``MIN_ROWS`` rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from luthier.core.doctor_report import MAX_EXAMPLES, MAX_LINES, DoctorFinding, Weight

ALREADY_PREDICTED, BIZARRE = "already_predicted", "bizarre"
CODES = (ALREADY_PREDICTED, BIZARRE)
PREDICTED_LOSS = 0.1
"""Nats per token: a geometric mean probability of 90 %."""
MIN_TOKENS = 8
DEVIATIONS = 5.0
MIN_DISTANCE = 1.0
MIN_ROWS = 20
_NORMAL = 1.4826
_QUANTILES = {"min": 0.0, "p05": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
_MANY = 0.1
"""The share of rows predicted already from which on a training run is mostly spent on nothing new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLoss:
    """One measured row."""

    line: int
    loss: float
    """Mean over its trained tokens, nats."""
    num_tokens: int
    """Trained tokens, at least 1."""
    num_correct: int
    """Trained tokens that are the model's first choice."""
    text: str = ""
    """How the answer begins."""

    def is_predicted(self) -> bool:
        """Whether the model would write this answer by itself."""
        return self.num_correct == self.num_tokens and self.loss < PREDICTED_LOSS


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """From which loss on an answer of ``MIN_TOKENS`` tokens or more is bizarre."""

    random: float
    """``ln(vocabulary)``."""
    far: float | None
    """None where too few rows were measured to say what is usual."""

    def is_bizarre(self, row: RowLoss) -> bool:
        """Whether a row is."""
        return row.num_tokens >= MIN_TOKENS and (row.loss > self.random or (self.far is not None and row.loss > self.far))


def bounds_of(rows: Sequence[RowLoss], vocab_size: int) -> Bounds:
    """The bounds for one file's rows."""
    losses = np.array([row.loss for row in rows if row.num_tokens >= MIN_TOKENS])
    random = math.log(vocab_size)
    if losses.size < MIN_ROWS:
        return Bounds(random=random, far=None)
    median = float(np.median(losses))
    spread = _NORMAL * float(np.median(np.abs(losses - median)))
    return Bounds(random=random, far=max(median + max(DEVIATIONS * spread, MIN_DISTANCE), random / 2))


def code_of(row: RowLoss, bounds: Bounds) -> str | None:
    """The code of the finding that a row belongs to; None for most rows."""
    return BIZARRE if bounds.is_bizarre(row) else ALREADY_PREDICTED if row.is_predicted() else None


def findings_of_losses(rows: Sequence[RowLoss], bounds: Bounds, *, model: str) -> list[DoctorFinding]:
    """The findings, each with how many rows were measured. ``model`` is the name shown."""
    found: list[DoctorFinding] = []
    bizarre = [row for row in rows if bounds.is_bizarre(row)]
    if bizarre:
        finding = (
            f"{_of(bizarre, rows)} an answer that {model} finds bizarre: a loss above {min(bounds.random, bounds.far or math.inf):.1f}."
        )
        found.append(
            _finding(
                BIZARRE,
                bizarre,
                rows,
                weight=Weight.WORTH_A_LOOK,
                finding=finding,
                why="Answers that are garbled, in another language or beside the wrong question look like this, and pull a model hardest.",
                cure="Read these rows (luthier data show FILE --line N), and correct or remove those that are wrong.",
            )
        )
    predicted = [row for row in rows if row.is_predicted()]
    if predicted:
        found.append(
            _finding(
                ALREADY_PREDICTED,
                predicted,
                rows,
                weight=Weight.WORTH_A_LOOK if len(predicted) > _MANY * len(rows) else Weight.INFORMATION,
                finding=f"{_of(predicted, rows)} an answer that {model} gives already: every token its first choice.",
                why="There is next to nothing to learn from them, and they cost as much time as other rows.",
                cure="Leave most of them out, and keep a few so that the model does not unlearn them.",
            )
        )
    return found


def _of(some: Sequence[RowLoss], rows: Sequence[RowLoss]) -> str:
    return f"{len(some):,} of {len(rows):,} measured rows {'has' if len(some) == 1 else 'have'}"


def _finding(
    code: str, some: list[RowLoss], rows: Sequence[RowLoss], *, weight: Weight, finding: str, why: str, cure: str
) -> DoctorFinding:
    # Numbers alone: a row's words might be a secret. The most telling rows first.
    telling = sorted(some, key=lambda row: (row.loss if code == ALREADY_PREDICTED else -row.loss, row.line))[:MAX_EXAMPLES]
    return DoctorFinding(
        code=code,
        weight=weight,
        count=len(some),
        lines=tuple(sorted(row.line for row in some)[:MAX_LINES]),
        finding=finding,
        why=why,
        cure=cure,
        examples=tuple(f"line {row.line:,}: loss {row.loss:.2f} over {row.num_tokens:,} tokens" for row in telling),
        measured_on=len(rows),
    )


def statistics_of(rows: Sequence[RowLoss], bounds: Bounds) -> dict[str, Any]:
    """Median, quantiles and accuracy of the measured rows; of each row the same weight but in ``accuracy``, which is of tokens."""
    if not rows:
        return {"num_measured": 0}
    losses = np.array([row.loss for row in rows])
    num_tokens = sum(row.num_tokens for row in rows)
    quantiles = dict(zip(_QUANTILES, np.quantile(losses, list(_QUANTILES.values())), strict=True))
    return {
        "num_measured": len(rows),
        "num_tokens": num_tokens,
        "loss": {name: round(float(value), 4) for name, value in {**quantiles, "mean": losses.mean()}.items()},
        "accuracy": round(sum(row.num_correct for row in rows) / num_tokens, 4),
        "bounds": {
            "already_predicted": PREDICTED_LOSS,
            "bizarre_random": round(bounds.random, 4),
            "bizarre_far": None if bounds.far is None else round(bounds.far, 4),
            "min_tokens": MIN_TOKENS,
        },
    }
