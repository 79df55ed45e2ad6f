"""Where a run stands, in plain numbers: with weights and moments it is all that a resume needs.

What it does: one frozen record and its way to JSON and back, and how a run ended. What it does not: hold tensors. Called by ``loop.py``.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from luthier.training.objective import Totals, added


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The position in the data and the sums of the epoch under way. JSON keeps every float to the last bit."""

    step: int = 0
    """Steps done."""
    epoch: int = 1
    """The epoch under way, 1-based; ``n_epochs + 1`` when all is done."""
    batch_index: int = 0
    """The epoch's next batch, 0-based."""
    epoch_loss_sum: float = 0.0
    epoch_count: float = 0
    """What the sum is divided by, as ``LossSums.count``. 0 in states written before there were pairs: then ``epoch_tokens``."""
    epoch_parts: tuple[float, ...] = ()
    """Sums of the objective's own metrics."""
    epoch_tokens: int = 0
    """Tokens whose greedy hits are counted."""
    epoch_correct: int = 0
    epoch_seconds: float = 0.0
    tokens_seen: int = 0
    """Tokens of all rows trained on so far, padding not counted, over all epochs."""
    trained_tokens: int = 0
    """Those of them that are an answer's, and so count in the loss whatever prompts do."""
    base_measured: bool = False
    metrics: dict[str, float] = field(default_factory=dict)
    """The latest value of each of OpenAI's checkpoint metrics."""
    skipped_steps: int = 0
    """Steps that changed nothing because their loss or gradient was no finite number; they count in ``step``."""
    skipped_in_row: int = 0
    recent_losses: tuple[float, ...] = ()
    """Of the latest steps, for what counts as a spike."""
    start_loss: float | None = None
    """The highest of the run's first losses; None in states of a run that began before it was kept, or while there is none."""
    rate_factor: float = 1.0
    """What the schedule's rate is multiplied by."""
    halved_at: int = 0
    """The step that halved it last."""
    best_epoch: int = 0
    """The one with the lowest held-out loss so far; 0 where there is none, or nothing is to be chosen by it."""
    best_step: int = 0
    best_loss: float | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    ended: bool = False
    """The last epoch is over, be it that all are or that none was better for too long; only told where epochs are judged."""

    def after(self, sums: Totals, *, tokens: int, seconds: float, metrics: dict[str, float]) -> "Progress":
        """One more step that taught something. ``tokens``: of its rows."""
        return dataclasses.replace(
            self,
            step=self.step + 1,
            batch_index=self.batch_index + 1,
            epoch_loss_sum=self.epoch_loss_sum + sums.loss,
            epoch_count=(self.epoch_count or self.epoch_tokens) + sums.count,
            epoch_parts=added(self.epoch_parts, sums.parts),
            epoch_tokens=self.epoch_tokens + sums.num_scored,
            epoch_correct=self.epoch_correct + sums.num_correct,
            epoch_seconds=self.epoch_seconds + seconds,
            tokens_seen=self.tokens_seen + tokens,
            trained_tokens=self.trained_tokens + sums.num_tokens,
            skipped_in_row=0,
            metrics=metrics,
        )

    def skipped(self, seconds: float) -> "Progress":
        """One more step that was left out."""
        return dataclasses.replace(
            self,
            step=self.step + 1,
            batch_index=self.batch_index + 1,
            epoch_seconds=self.epoch_seconds + seconds,
            skipped_steps=self.skipped_steps + 1,
            skipped_in_row=self.skipped_in_row + 1,
        )

    def next_epoch(self) -> "Progress":
        """The epoch is over; its sums begin anew."""
        return dataclasses.replace(
            self,
            epoch=self.epoch + 1,
            batch_index=0,
            epoch_loss_sum=0.0,
            epoch_count=0,
            epoch_parts=(),
            epoch_tokens=0,
            epoch_correct=0,
            epoch_seconds=0.0,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """How a run ended."""

    steps: int
    epoch: int
    """The epoch under way when it stopped; one more than there are when it did not."""
    tokens_seen: int
    """Tokens of all rows over all epochs, padding not counted: what OpenAI bills and calls ``trained_tokens``."""
    trained_tokens: int
    """Those of them that are an answer's, and so count in the loss whatever prompts do."""
    stopped: bool
    """True when ``should_stop`` ended the run early; its resume state is on disk."""
    metrics: dict[str, float]
    """The latest metrics, in the keys of OpenAI's checkpoint object."""


def progress_from_dict(plain: dict[str, Any]) -> Progress:
    """The inverse of ``Progress.to_dict``."""
    listed = {name: tuple(plain.get(name, ())) for name in ("epoch_parts", "recent_losses")}
    return Progress(**{**plain, **listed})
