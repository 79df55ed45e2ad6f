"""Which examples make a step, and how they lie in a batch.

What it does: a deterministic, length-bucketed order for each epoch; right-padded batches. What it does not: know the
model. Called by ``stage.py`` (``Prepared``), through it by training.

Axis letters: B rows of a batch, T tokens.
"""

from collections.abc import Sequence

import numpy as np

from luthier.core.tokens import TokenBatch, TokenizedExample

# Rows of like length share a batch, so that little is padding; a window of this many batches keeps the order random enough.
_WINDOW_BATCHES = 16


def epoch_order(lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one epoch as lists of example indices; every index occurs exactly once.

    The order follows from (seed, epoch) alone: examples are shuffled, sorted by length within windows of 16 batches, cut
    into batches, and the batches shuffled. Only one batch can be smaller than ``batch_size``.

    Args:
        lengths: tokens of each example.
        batch_size: examples per step.
        seed: the job's seed.
        epoch: 1-based.
    """
    raw = np.random.PCG64(np.random.SeedSequence([seed & 0xFFFFFFFF, epoch]))
    # Raw bits and a stable sort, not ``Generator.permutation``: NumPy does not promise that the latter stays the same.
    shuffled = np.argsort(raw.random_raw(len(lengths)), kind="stable")
    if batch_size == 1:
        return [[int(index)] for index in shuffled]
    window = batch_size * _WINDOW_BATCHES
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), window):
        part = sorted((int(index) for index in shuffled[start : start + window]), key=lambda index: lengths[index])
        batches.extend(part[at : at + batch_size] for at in range(0, len(part), batch_size))
    return [batches[at] for at in np.argsort(raw.random_raw(len(batches)), kind="stable")]


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
