"""Which examples make a step, and how they lie in a batch.

What it does: a deterministic, length-bucketed order for each epoch; right-padded batches. What it does not: know the
model. Called by ``stage.py`` (``Prepared``), through it by training.

Axis letters: B rows of a batch, T tokens.
"""

from collections.abc import Sequence
from typing import overload

import numpy as np

from luthier.core.tokens import TokenBatch, TokenizedExample

# Rows of like length share a batch, so that little is padding; a window of this many batches keeps the order random enough.
_WINDOW_BATCHES = 16


class EpochBatches(Sequence[list[int]]):
    """The batches of one epoch, cut from one array of indices when they are asked for: a file has millions of rows."""

    def __init__(self, order: np.ndarray, batch_size: int, turns: np.ndarray, rows_per_example: int = 1) -> None:
        """``turns``: which cut of ``order`` is the nth batch. ``rows_per_example``: as in ``epoch_order``."""
        self._order = order
        self._batch_size = batch_size
        self._turns = turns
        self._rows = np.arange(rows_per_example)

    def __len__(self) -> int:
        return len(self._turns)

    @overload
    def __getitem__(self, index: int) -> list[int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[int]]: ...
    def __getitem__(self, index: int | slice) -> list[int] | list[list[int]]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        start = int(self._turns[index]) * self._batch_size
        chosen = self._order[start : start + self._batch_size]
        return (chosen[:, None] * len(self._rows) + self._rows).ravel().tolist()


def epoch_order(lengths: Sequence[int] | np.ndarray, batch_size: int, *, seed: int, epoch: int, rows_per_example: int = 1) -> EpochBatches:
    """The batches of one epoch as lists of example indices; every index occurs exactly once.

    The order follows from (seed, epoch) alone: examples are shuffled, sorted by length within windows of 16 batches, cut
    into batches, and the batches shuffled. Only one batch can be smaller than ``batch_size``.

    Args:
        lengths: tokens of each example.
        batch_size: examples per step.
        seed: the job's seed.
        epoch: 1-based.
        rows_per_example: neighbouring rows that make one example: the batches name rows, all of an example together.
    """
    raw = np.random.PCG64(np.random.SeedSequence([seed & 0xFFFFFFFF, epoch]))
    # Raw bits and a stable sort, not ``Generator.permutation``: NumPy does not promise that the latter stays the same.
    order = np.argsort(raw.random_raw(len(lengths)), kind="stable")
    if batch_size == 1:
        return EpochBatches(order, 1, np.arange(len(order)), rows_per_example)
    lengths_I = np.asarray(lengths)
    window = batch_size * _WINDOW_BATCHES
    for start in range(0, len(order), window):
        part = order[start : start + window]
        order[start : start + window] = part[np.argsort(lengths_I[part], kind="stable")]
    num_batches = -(-len(order) // batch_size)
    return EpochBatches(order, batch_size, np.argsort(raw.random_raw(num_batches), kind="stable"), rows_per_example)


def collate(examples: Sequence[TokenizedExample]) -> TokenBatch:
    """Lay examples side by side, padded on the right with id 0 and weight 0 to the longest."""
    lengths_B = np.array([example.num_tokens for example in examples], dtype=np.int64)
    shape = (len(examples), int(lengths_B.max()))
    ids_BT = np.zeros(shape, dtype=np.int64)
    weights_BT = np.zeros(shape, dtype=np.float32)
    for row, example in enumerate(examples):
        ids_BT[row, : lengths_B[row]] = example.rendered.ids_T
        weights_BT[row, : lengths_B[row]] = example.rendered.weights_T
    return TokenBatch(ids_BT=ids_BT, lengths_B=lengths_B, weights_BT=weights_BT, sources=tuple(e.source for e in examples))
