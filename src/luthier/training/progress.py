"""Where a run stands, in plain numbers: with weights and moments it is all that a resume needs.

What it does: one frozen record and its way to JSON and back. What it does not: hold tensors. Called by ``loop.py``.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any


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
    epoch_count: int = 0
    """What the sum is divided by: trained tokens, or pairs. 0 in states written before there were pairs: then ``epoch_tokens``."""
    epoch_parts: tuple[float, ...] = ()
    """Sums of the objective's own metrics."""
    epoch_tokens: int = 0
    """Tokens whose greedy hits are counted."""
    epoch_correct: int = 0
    epoch_seconds: float = 0.0
    tokens_seen: int = 0
    """Tokens of all rows trained on so far, padding not counted, over all epochs."""
    trained_tokens: int = 0
    """Those of them that counted in the loss."""
    base_measured: bool = False
    metrics: dict[str, float] = field(default_factory=dict)
    """The latest value of each of OpenAI's checkpoint metrics."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def progress_from_dict(plain: dict[str, Any]) -> Progress:
    """The inverse of ``Progress.to_dict``."""
    return Progress(**{**plain, "epoch_parts": tuple(plain.get("epoch_parts", ()))})
