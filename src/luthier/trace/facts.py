"""What a rule about an epoch may look at, and the shape of such a rule.

What it does not: judge (``observations.py``, ``preference_observations.py``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from luthier.trace.events import BaseMeasured, EpochDone
from luthier.trace.step_watch import StepFacts


@dataclass(frozen=True, slots=True)
class Facts:
    """The numbers that a rule may look at."""

    rows: Sequence[EpochDone]
    """All epochs up to the one that is spoken of, in order."""
    base: BaseMeasured | None
    steps: StepFacts
    """Of the epoch's steps."""

    @property
    def row(self) -> EpochDone:
        """The epoch that is spoken of."""
        return self.rows[-1]

    @property
    def before(self) -> EpochDone | None:
        """The epoch before it."""
        return self.rows[-2] if len(self.rows) > 1 else None

    @property
    def best_before(self) -> EpochDone | None:
        """The earlier epoch with the lowest held-out loss."""
        held_out = [r for r in self.rows[:-1] if r.valid_loss is not None]
        return min(held_out, key=lambda r: r.valid_loss or 0.0) if held_out else None


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table."""

    name: str
    holds: Callable[[Facts], bool]
    says: Callable[[Facts], str]
