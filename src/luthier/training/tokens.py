"""What training needs of a prepared set of token examples, without knowing who prepared it.

``preprocessing.stage.Prepared`` satisfies it; the stages stay strangers. Used by ``loop.py``, ``evaluate.py`` and the objectives.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from luthier.core.tokens import TokenBatch, TokenizedExample


class TokenSource(Protocol):
    """Token examples that can be batched in a deterministic order."""

    @property
    def examples(self) -> Sequence[TokenizedExample]:
        """All examples, in file order. Each may be made when it is asked for."""
        ...

    @property
    def lengths(self) -> np.ndarray:
        """int64 tokens of each example; without making one."""
        ...

    @property
    def rows_per_example(self) -> int:
        """Neighbouring rows of ``examples`` that make one: 2 where each is a pair of answers, the preferred one first."""
        ...

    def epoch_batches(self, *, batch_size: int, seed: int, epoch: int) -> Sequence[list[int]]:
        """Indices into ``examples``, one list per step; the same for the same arguments, always. The rows of a pair stand together."""
        ...

    def packed(self, indices: Sequence[int], capacity: int) -> list[list[int]]:
        """A step's rows in sequences of at most ``capacity`` tokens, best fit; the same for the same arguments. Pairs stay together.

        A row (or pair) that has more tokens lies alone.
        """
        ...

    def batch(self, indices: Sequence[int]) -> TokenBatch:
        """The chosen examples side by side, padded on the right."""
        ...

    def mismatched(self, max_length: int) -> "TokenSource":
        """Of pairs: the same prompts in the same order, each with the answers of another pair; the same for the same rows, always.

        A row of more than ``max_length`` tokens is cut at the end, and has at least one trained token.
        """
        ...


def num_examples(source: TokenSource) -> int:
    """Examples, or pairs, of a set."""
    return len(source.examples) // source.rows_per_example


def examples_of(source: TokenSource, rows: Sequence[int]) -> list[int]:
    """The examples that whole sets of rows make, in order: the other way from ``rows_of``."""
    each = source.rows_per_example
    return [row // each for row in rows[::each]]


def rows_of(source: TokenSource, examples: Sequence[int]) -> list[int]:
    """The rows of some examples, in order."""
    each = source.rows_per_example
    return [example * each + part for example in examples for part in range(each)]
