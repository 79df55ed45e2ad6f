"""What a step learns from, as the loop and the measurements see it: sums over some rows, and what they are divided by.

What it does: the protocol that every objective fulfils, and the sums that go through it. What it does not: know any loss
(``sft.py``, ``against_reference.py``, ``orpo.py``) or choose one (``methods.py``). Used by ``loop.py``, ``evaluate.py`` and ``dry_run.py``.

A new objective is one file with one class, and its line in ``methods.py``.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from luthier.models.language_model import LanguageModel
from luthier.training.hooks import TrainerHooks
from luthier.training.reference import ReferenceStore
from luthier.training.tokens import TokenSource
from luthier.training.turns import Turns


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LossSums:
    """Sums over the rows of one forward. The tensors may still be on their way from the device."""

    loss: Tensor
    """Scalar float32, nats, not divided; carries the gradient."""
    count: float
    """What the loss is divided by: trained tokens, with weighted ones of prompts where these count too, or pairs."""
    num_tokens: int
    """Trained tokens: those of the answers."""
    num_scored: int
    """Those of them whose greedy hits are counted: all, or the preferred answers'."""
    num_correct: Tensor
    """Scalar int64: tokens that the model would have chosen greedily."""
    losses_N: Tensor | None = None
    """float32 losses of the trained tokens, one by one in the order of the rows, without gradients; None where there are none."""
    parts: Tensor | None = None
    """(K,) float64 further sums, of which ``Objective.means`` makes its metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The same as plain numbers, over any number of forwards."""

    loss: float = 0.0
    count: float = 0
    num_tokens: int = 0
    num_scored: int = 0
    num_correct: int = 0
    parts: tuple[float, ...] = ()

    def plus(self, sums: LossSums) -> "Totals":
        """With one more forward; waits for its tensors."""
        parts = () if sums.parts is None else tuple(sums.parts.tolist())
        return Totals(
            loss=self.loss + float(sums.loss.detach()),
            count=self.count + sums.count,
            num_tokens=self.num_tokens + sums.num_tokens,
            num_scored=self.num_scored + sums.num_scored,
            num_correct=self.num_correct + int(sums.num_correct),
            parts=added(self.parts, parts),
        )


def added(parts: Sequence[float], more: Sequence[float]) -> tuple[float, ...]:
    """Sums of two sets of parts, of which either may be empty."""
    if not parts or not more:
        return tuple(parts or more)
    return tuple(a + b for a, b in zip(parts, more, strict=True))


class Objective(Protocol):
    """One way to learn. It may hold what it measured of the model before the first update, and what ``for_examples`` says."""

    def prepare(
        self, model: LanguageModel, sources: Sequence[TokenSource], *, adapter: str | None, store: ReferenceStore, hooks: TrainerHooks
    ) -> Turns[bool]:
        """Measure what must be known of the model as it starts, in turns. Once, before any weight moves or comes back from a resume state.

        Args:
            model: as tuning starts from it.
            sources: the training rows and, where there are any, the held-out ones; ``sums`` is only asked about these.
            adapter: the adapter that is the model's start, None for the base alone.
            store: where the measures are kept for a resume.
            hooks: told how far it is, and asked whether to stop.

        Returns:
            False when it was stopped.
        """
        ...

    def assume(self, sources: Sequence[TokenSource]) -> None:
        """Take zeros for what ``prepare`` would measure: for a trial whose time counts and whose values do not."""
        ...

    def count(self, source: TokenSource, rows: Sequence[int]) -> float:
        """What the loss of these rows is divided by, without a forward."""
        ...

    def for_examples(self, model: LanguageModel, source: TokenSource, examples: Sequence[int]) -> "Generator[None, None, Objective]":
        """The objective whose ``sums`` over these examples (pairs) belong together: those of one step, or of one measurement.

        Itself, where each example counts by itself. Else what depends on all of them is measured first, without gradients, with the adapter
        that is in use, in turns of one forward each: so it is the same however they are cut afterwards.
        """
        ...

    def sums(self, model: LanguageModel, source: TokenSource, rows: Sequence[int]) -> LossSums:
        """One forward over some rows of a source, with the adapter that is in use; gradients where they are enabled."""
        ...

    def means(self, parts: Sequence[float], count: float) -> dict[str, float] | None:
        """The objective's own metrics of some sums, by name (``trace.events.StepDone.preference``); None where it has none."""
        ...

    def at_start(self, source: TokenSource, rows: Sequence[int]) -> Totals | None:
        """The sums of the model as it started, where ``prepare`` has measured them already; else None."""
        ...
