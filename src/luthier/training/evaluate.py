"""Mean loss and token accuracy of a model over a prepared set, without gradients.

What it does: the numbers of validation, of the base before the first step and of the sample example. What it does not:
generate text (``evaluation`` does). Called by ``loop.py``, and by ``plan.py`` for which rows are measured when.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from luthier.core.specs import TrainingSpec
from luthier.models.facts import ModelFacts
from luthier.models.language_model import LanguageModel
from luthier.training.objective import Objective, Totals
from luthier.training.sft import Room, SupervisedObjective, micro_batches, room_on
from luthier.training.tokens import TokenSource, num_examples, rows_of

_ROWS_PER_FORWARD = 32
_BASE_SAMPLE = 128
"""Enough for a mean; it is waited for before the first step."""
_VALIDATION_ROWS = 4
"""A small validation batch has at least so many examples."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Means over trained tokens, or over pairs."""

    loss: float
    """Nats per token, or per pair."""
    accuracy: float
    """Share of tokens that greedy decoding would have got right, each given the true tokens before it; of preferred answers with pairs."""
    num_tokens: int
    preference: dict[str, float] | None = None
    """The objective's own metrics, as ``trace.events.StepDone.preference``."""

    def named(self, prefix: str) -> dict[str, float]:
        """The numbers in the keys of OpenAI's checkpoint object; the objective's own ones after the same pattern."""
        own = {f"{prefix}_{name}": value for name, value in (self.preference or {}).items()}
        return {f"{prefix}_loss": self.loss, f"{prefix}_mean_token_accuracy": self.accuracy, **own}


def means_of(totals: Totals, objective: Objective) -> Measured:
    """Divide, once."""
    return Measured(
        loss=totals.loss / totals.count,
        accuracy=totals.num_correct / totals.num_scored,
        num_tokens=totals.num_tokens,
        preference=objective.means(totals.parts, totals.count),
    )


def measure(
    model: LanguageModel, source: TokenSource, indices: Sequence[int] | None = None, *, objective: Objective | None = None
) -> Measured:
    """Measure the model, with the adapter that is in use, on some examples (pairs) or on all of them."""
    turns = measuring(model, source, indices, objective=objective)
    while True:
        try:
            next(turns)
        except StopIteration as end:
            return end.value


def measuring(
    model: LanguageModel,
    source: TokenSource,
    indices: Sequence[int] | None = None,
    *,
    objective: Objective | None = None,
    all_scored: bool = False,
) -> Generator[None, None, Measured]:
    """``measure`` in turns, one forward each: between two of them another run may use the model.

    ``all_scored``: as ``micro_batches`` has it.
    """
    totals, room = Totals(), room_on(model)
    chosen = range(num_examples(source)) if indices is None else indices
    objective = yield from (objective or SupervisedObjective()).for_examples(model, source, chosen)
    for group in forward_groups(source, indices, model.facts, room, all_scored=all_scored):
        with only_reading(model):
            totals = totals.plus(objective.sums(model, source, group))
        yield
    return means_of(totals, objective)


@contextmanager
def only_reading(model: LanguageModel) -> Iterator[None]:
    """Forwards here keep nothing for a backward; afterwards the model learns, or does not, as before."""
    was_training = model.module.training
    model.module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.module.train(was_training)


def forward_groups(
    source: TokenSource, indices: Sequence[int] | None, facts: ModelFacts, room: Room | None = None, *, all_scored: bool = False
) -> list[list[int]]:
    """The forwards in which ``measure`` reads some examples (pairs), or all, as rows: sorted by length, cut as a step is, longest first.

    Were they to come last, each forward would need a little more than the one before left free, and the heap would grow to several
    times what the largest one needs.
    """
    each = source.rows_per_example
    lengths = source.lengths.reshape(-1, each).max(axis=1)
    chosen = np.arange(len(lengths)) if indices is None else np.asarray(indices, dtype=np.int64)
    by_length = rows_of(source, chosen[np.lexsort((chosen, lengths[chosen]))].tolist())
    cuts = [by_length[at : at + _ROWS_PER_FORWARD] for at in range(0, len(by_length), _ROWS_PER_FORWARD)]
    groups: list[list[int]] = []
    for cut in cuts:
        groups += micro_batches(cut, source.examples, facts, room, rows_per_example=each, all_scored=all_scored)
    return groups[::-1]


def base_rows(train: TokenSource, valid: TokenSource | None) -> list[int]:
    """The examples on which the base is measured: all held-out ones, or without them at most 128 for training, evenly spaced."""
    return list(range(num_examples(valid))) if valid is not None else spread(num_examples(train), _BASE_SAMPLE)


def check_rows(step: int, spec: TrainingSpec, total: int) -> list[int] | None:
    """The held-out examples of the small validation after a step, None where none is due; they walk through the whole set in turn."""
    if step % spec.validation_every:
        return None
    rows = min(total, max(_VALIDATION_ROWS, spec.batch_size))
    start = (step // spec.validation_every - 1) * rows
    return [(start + at) % total for at in range(rows)]


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` indices below ``count``, evenly spaced from 0."""
    if count <= most:
        return list(range(count))
    return [at * count // most for at in range(most)]
