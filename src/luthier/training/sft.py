"""The supervised loss: cross-entropy summed over trained tokens, with greedy hits counted beside it.

What it does: one forward over one batch, head on trained positions only. What it does not: divide. The caller sums over
micro-batches and divides once by the step's trained tokens, so that how a batch was cut never changes its loss.
Called by ``loop.py``, ``evaluate.py`` and through ``methods.py``.

Axis letters: B rows, T tokens, N trained positions, V vocabulary.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from luthier.core.tokens import TokenBatch, TokenizedExample
from luthier.models.facts import ModelFacts
from luthier.models.language_model import LanguageModel
from luthier.training.hooks import TrainerHooks
from luthier.training.objective import LossSums, Objective, Totals
from luthier.training.reference import ReferenceStore
from luthier.training.tokens import TokenSource
from luthier.training.turns import Turns, at_once

# One forward keeps at most about 2 GiB of activations (40 float32 numbers per token, layer and unit of width) and makes at most
# 128 MiB of logits: a step's memory is bounded whatever its batch size. Fixed numbers that depend on the model alone, because
# how a batch is cut decides the last bits of its sum.
ACTIVATION_BYTES = 2 << 30
_BYTES_PER_UNIT = 160
_MICRO_LOGITS = 1 << 25
# Of a GPU's memory beside the weights: the rest is for gradients, moments, logits in pieces and the engine host.
_GPU_SHARE = 0.4
_GPU_LOGITS = 1 << 29


class SupervisedObjective:
    """See ``Objective``: cross-entropy, each token times its weight, divided by the number of trained tokens."""

    def prepare(
        self, model: LanguageModel, sources: Sequence[TokenSource], *, adapter: str | None, store: ReferenceStore, hooks: TrainerHooks
    ) -> Turns[bool]:
        """Nothing needs to be known of the start."""
        return at_once(True)

    def assume(self, sources: Sequence[TokenSource]) -> None:
        """Nothing needs to be known of the start."""

    def count(self, source: TokenSource, rows: Sequence[int]) -> float:
        """Trained tokens."""
        return sum(source.examples[row].rendered.num_trained for row in rows)

    def for_examples(self, model: LanguageModel, source: TokenSource, examples: Sequence[int]) -> Generator[None, None, Objective]:
        """Each token counts by itself."""
        return at_once(self)

    def sums(self, model: LanguageModel, source: TokenSource, rows: Sequence[int]) -> LossSums:
        """One forward."""
        return sft_sums(model, source.batch(rows))

    def means(self, parts: Sequence[float], count: float) -> dict[str, float] | None:
        """Loss and token accuracy say it all."""
        return None

    def at_start(self, source: TokenSource, rows: Sequence[int]) -> Totals | None:
        """Nothing was measured."""
        return None


def sft_sums(model: LanguageModel, batch: TokenBatch, weights_BT: np.ndarray | None = None) -> LossSums:
    """Run the model on a batch and sum its loss over the trained tokens.

    ``weights_BT``: the batch's own weights and those of further tokens, which count in the loss alone; None: there are no others.
    """
    ids_BT, rows_N, columns_N, weights_N = chosen_positions(batch, weights_BT)
    targets_N = ids_BT[rows_N, columns_N]
    lengths_B = torch.from_numpy(batch.lengths_B)
    loss, hits_N, losses_N = model.losses_at(ids_BT, lengths_B, rows_N, columns_N - 1, targets_N, weights_N)
    trained = np.flatnonzero(batch.weights_BT[rows_N.numpy(), columns_N.numpy()])
    if len(trained) < len(rows_N):
        own_N = torch.from_numpy(trained).to(losses_N.device)
        hits_N, losses_N = hits_N[own_N], losses_N[own_N]
    count = len(trained)
    return LossSums(loss=loss, count=count, num_tokens=count, num_scored=count, num_correct=hits_N.sum(), losses_N=losses_N)


def chosen_positions(batch: TokenBatch, weights_BT: np.ndarray | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The ids (B, T) of a batch; row, column and weight of each token whose weight is not zero. ``weights_BT`` as ``sft_sums``."""
    weights_BT = batch.weights_BT if weights_BT is None else weights_BT
    rows, columns = np.nonzero(weights_BT)
    weights = torch.from_numpy(weights_BT[rows, columns])
    return torch.from_numpy(batch.ids_BT), torch.from_numpy(rows), torch.from_numpy(columns), weights


@dataclass(frozen=True, slots=True)
class Room:
    """What one forward may take."""

    activation_bytes: int
    padded: bool = True
    """Rows cost as much as the longest of them."""
    most_logits: int | None = _MICRO_LOGITS
    """Numbers that the logits may have; None where they are made in pieces."""


def room_on(model: LanguageModel) -> Room:
    """The room on the model's device. On a GPU a fixed share of its memory, whatever else is in it: how a batch is cut decides its bits."""
    if model.device.type != "cuda":
        return Room(ACTIVATION_BYTES)
    total = torch.cuda.get_device_properties(model.device).total_memory
    return room_within(total, sum(p.nbytes for p in model.all_parameters()), flat=model.flat)


def room_within(total_bytes: int, weight_bytes: int, *, flat: bool) -> Room:
    """The room on a GPU with so much memory beside weights of this size; ``flat``: rows lie end to end."""
    taken = max(ACTIVATION_BYTES, int((total_bytes - weight_bytes) * _GPU_SHARE))
    return Room(taken, padded=not flat, most_logits=None if flat else _GPU_LOGITS)


def most_tokens_of(facts: ModelFacts, activation_bytes: int = ACTIVATION_BYTES) -> int:
    """Tokens of one forward at most, padding included, unless one row alone has more."""
    return activation_bytes // max(1, facts.num_layers * facts.hidden_size * _BYTES_PER_UNIT)


def micro_batches(
    indices: Sequence[int],
    examples: Sequence[TokenizedExample],
    facts: ModelFacts,
    room: Room | None = None,
    *,
    rows_per_example: int = 1,
    all_scored: bool = False,
) -> list[list[int]]:
    """Cut a step's rows into forwards of bounded size; one that is too large alone goes alone. The rows of a pair stay together.

    ``all_scored``: logits are made for every token, not for the trained ones alone.
    """
    room = room or Room(ACTIVATION_BYTES)
    most_tokens = most_tokens_of(facts, room.activation_bytes)
    groups: list[list[int]] = []
    longest = trained = tokens = 0
    for at in range(0, len(indices), rows_per_example):
        rows = indices[at : at + rows_per_example]
        each = [examples[row].num_tokens for row in rows]
        length, size = max(each), sum(each)
        count = size if all_scored else sum(examples[row].rendered.num_trained for row in rows)
        longest, trained, tokens = max(longest, length), trained + count, tokens + size
        taken = (len(groups[-1]) + len(rows)) * longest if groups and room.padded else tokens
        fits = groups and taken <= most_tokens and (room.most_logits is None or trained * facts.vocab_size <= room.most_logits)
        if fits:
            groups[-1] += rows
        else:
            groups.append(list(rows))
            longest, trained, tokens = length, count, size
    return groups
