"""The supervised loss: cross-entropy summed over trained tokens, with greedy hits counted beside it.

What it does: one forward over one batch, head on trained positions only. What it does not: divide. The caller sums over
micro-batches and divides once by the step's trained tokens, so that how a batch was cut never changes its loss.
Called by ``loop.py`` and ``evaluate.py``.

Axis letters: B rows, T tokens, N trained positions, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from luthier.core.tokens import TokenBatch, TokenizedExample
from luthier.models.facts import ModelFacts
from luthier.models.language_model import LanguageModel

# One forward keeps at most about 2 GiB of activations (40 float32 numbers per token, layer and unit of width) and makes at most
# 128 MiB of logits: a step's memory is bounded whatever its batch size. Fixed numbers that depend on the model alone, because
# how a batch is cut decides the last bits of its sum.
_ACTIVATION_BYTES = 2 << 30
_BYTES_PER_UNIT = 160
_MICRO_LOGITS = 1 << 25


@dataclass(frozen=True, slots=True, eq=False)
class LossSums:
    """Sums over the trained tokens of a batch."""

    loss: Tensor
    """Scalar float32, nats, each token times its weight; carries the gradient."""
    num_tokens: int
    num_correct: int
    """Tokens that the model would have chosen greedily."""


def sft_sums(model: LanguageModel, batch: TokenBatch) -> LossSums:
    """Run the model on a batch and sum its loss over the trained tokens."""
    device = model.device
    rows, columns = np.nonzero(batch.weights_BT)
    ids_BT = torch.from_numpy(batch.ids_BT).to(device)
    rows_N = torch.from_numpy(rows).to(device)
    columns_N = torch.from_numpy(columns).to(device)
    weights_N = torch.from_numpy(batch.weights_BT[rows, columns]).to(device)
    targets_N = ids_BT[rows_N, columns_N]
    logits_NV = model.logits_at(ids_BT, torch.from_numpy(batch.lengths_B).to(device), rows_N, columns_N - 1)
    losses_N = functional.cross_entropy(logits_NV, targets_N, reduction="none")
    correct = (logits_NV.detach().argmax(dim=-1) == targets_N).sum()
    return LossSums(loss=(losses_N * weights_N).sum(), num_tokens=len(rows), num_correct=int(correct))


def micro_batches(indices: Sequence[int], examples: Sequence[TokenizedExample], facts: ModelFacts) -> list[list[int]]:
    """Cut a step's examples into forwards of bounded size; an example that is too large alone goes alone."""
    most_tokens = _ACTIVATION_BYTES // max(1, facts.num_layers * facts.hidden_size * _BYTES_PER_UNIT)
    groups: list[list[int]] = []
    longest = trained = 0
    for index in indices:
        length = examples[index].num_tokens
        count = examples[index].rendered.num_trained
        longest = max(longest, length)
        trained += count
        fits = groups and (len(groups[-1]) + 1) * longest <= most_tokens and trained * facts.vocab_size <= _MICRO_LOGITS
        if fits:
            groups[-1].append(index)
        else:
            groups.append([index])
            longest, trained = length, count
    return groups
