"""Prompts of pairs beside the answers of other pairs, by which it is seen how far a model has moved from its reference.

What it does: says whose answers stand beside which prompts, the same for the same number of pairs always, and makes such a row when it is
asked for. What it does not: measure anything (``training/kto.py``). Called by ``stage.py`` (``Prepared.mismatched``).

Axis letters: E pairs, R rows (rows 2e and 2e + 1: the preferred answer first).
"""

from collections.abc import Sequence
from typing import overload

import numpy as np

from luthier.core.tokens import Rendered, TokenizedExample
from luthier.preprocessing.table import TokenTable

_SEED = 2402_01306


def partners(num_pairs: int) -> np.ndarray:
    """(R,) int64: whose answer stands beside each row's prompt.

    All pairs stand in one ring, in an order that follows from their number alone, and each prompt has both answers of the next pair: no
    pair but a single one meets itself, and each answer is taken once. A single pair's prompt has its own answers, exchanged.
    """
    if num_pairs == 1:
        return np.array([1, 0])
    # Raw bits and a stable sort, as for the order of batches: NumPy promises that these stay the same.
    ring_E = np.argsort(np.random.PCG64(np.random.SeedSequence(_SEED)).random_raw(num_pairs), kind="stable")
    next_E = np.empty(num_pairs, dtype=np.int64)
    next_E[ring_E] = np.roll(ring_E, -1)
    return (2 * next_E[:, None] + np.arange(2)).ravel()


class MismatchedRows(Sequence[TokenizedExample]):
    """Each row's prompt beside another row's answer. A row has the line of its prompt, and no spans."""

    def __init__(self, rows: Sequence[TokenizedExample], max_length: int) -> None:
        """``rows``: of pairs, each with an answer within ``max_length`` tokens; what goes beyond that is cut off at the end here too, so
        that at least one token of an answer is left."""
        self._rows = rows
        self._partners_R = partners(len(rows) // 2)
        self._prompts_R, whole_R = _prompts_and_lengths(rows)
        answers_R = (whole_R - self._prompts_R)[self._partners_R]
        self._surplus_R = np.maximum(self._prompts_R + answers_R - max_length, 0)
        self.lengths = self._prompts_R + answers_R - self._surplus_R
        """(R,) int64 tokens of each row after cutting."""

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> TokenizedExample: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[TokenizedExample, ...]: ...
    def __getitem__(self, index: int | slice) -> TokenizedExample | tuple[TokenizedExample, ...]:
        if isinstance(index, slice):
            return tuple(self._row(at) for at in range(*index.indices(len(self))))
        return self._row(range(len(self))[index])

    def _row(self, at: int) -> TokenizedExample:
        other = int(self._partners_R[at])
        asked, answered = self._rows[at], self._rows[other].rendered
        prompt, start, length = int(self._prompts_R[at]), int(self._prompts_R[other]), int(self.lengths[at])
        rendered = Rendered(
            ids_T=np.concatenate([asked.rendered.ids_T[:prompt], answered.ids_T[start:]])[:length],
            weights_T=np.concatenate([asked.rendered.weights_T[:prompt], answered.weights_T[start:]])[:length],
        )
        return TokenizedExample(source=asked.source, rendered=rendered, truncated=int(self._surplus_R[at]))


def _prompts_and_lengths(rows: Sequence[TokenizedExample]) -> tuple[np.ndarray, np.ndarray]:
    """(R,) int64 tokens of each row before the first trained one, and tokens of each row; of a table without making its rows."""
    if isinstance(rows, TokenTable):
        return rows.prompt_lengths, rows.lengths
    prompts = [int(np.flatnonzero(row.rendered.weights_T)[0]) for row in rows]
    return np.array(prompts, dtype=np.int64), np.array([row.num_tokens for row in rows], dtype=np.int64)
