"""Mean loss and token accuracy of a model over a prepared set, without gradients.

What it does: the numbers of validation, of the base before the first step and of the sample example. What it does not:
generate text (``evaluation`` does). Called by ``loop.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from luthier.models.language_model import LanguageModel
from luthier.training.sft import micro_batches, room_on, sft_sums
from luthier.training.tokens import TokenSource

_ROWS_PER_FORWARD = 32


@dataclass(frozen=True, slots=True)
class Measured:
    """Means over trained tokens."""

    loss: float
    """Nats per token."""
    accuracy: float
    """Share of tokens that greedy decoding would have got right, each given the true tokens before it."""
    num_tokens: int


def measure(model: LanguageModel, source: TokenSource, indices: Sequence[int] | None = None) -> Measured:
    """Measure the model, with the adapter that is in use, on some examples or on all of them."""
    lengths = source.lengths
    chosen = np.arange(len(lengths)) if indices is None else np.asarray(indices, dtype=np.int64)
    by_length = chosen[np.lexsort((chosen, lengths[chosen]))].tolist()
    loss_sum, num_tokens, num_correct = 0.0, 0, 0
    room = room_on(model)
    was_training = model.module.training
    model.module.eval()
    try:
        with torch.no_grad():
            for at in range(0, len(by_length), _ROWS_PER_FORWARD):
                for group in micro_batches(by_length[at : at + _ROWS_PER_FORWARD], source.examples, model.facts, room):
                    sums = sft_sums(model, source.batch(group))
                    loss_sum += float(sums.loss)
                    num_tokens += sums.num_tokens
                    num_correct += int(sums.num_correct)
    finally:
        model.module.train(was_training)
    return Measured(loss=loss_sum / num_tokens, accuracy=num_correct / num_tokens, num_tokens=num_tokens)


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` indices below ``count``, evenly spaced from 0."""
    if count <= most:
        return list(range(count))
    return [at * count // most for at in range(most)]
