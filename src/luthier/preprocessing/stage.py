"""Stage 2: a ``Dataset`` becomes ``Prepared`` token examples that can be batched.

What it does: tokenizes every example, leaves out rows that teach nothing and counts them by line, refuses a set of which
nothing is left. What it does not: decide numbers (``training/resolve.py``), keep tokens for other jobs (``cache.py``). Called by
``worker/token_cache.py``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import numpy as np

from luthier.core.errors import JobFailure
from luthier.core.examples import Dataset, SourceLine
from luthier.core.tokens import TokenBatch, TokenizedExample
from luthier.preprocessing.batches import collate, epoch_order
from luthier.preprocessing.table import TokenTable, table_in_memory
from luthier.preprocessing.tokenize import ExampleRenderer, Refused, Tokenized, tokenize_all

MAX_KEPT_LINES = 50


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """Token examples in file order, ready to be batched. Satisfies ``training.tokens.TokenSource``."""

    examples: Sequence[TokenizedExample]
    num_tokens: int
    """Tokens of all examples after cutting, no padding."""
    num_trained: int
    """Tokens that count in the loss."""
    num_truncated: int
    """Examples that were cut."""
    num_skipped: int = 0
    """Rows left out because none of their tokens is trained (all of the answer lay past the cut)."""
    skipped: tuple[SourceLine, ...] = ()
    """The first 50 of the rows left out."""

    @property
    def lengths(self) -> np.ndarray:
        """int64 tokens of each example."""
        if isinstance(self.examples, TokenTable):
            return self.examples.lengths
        return np.array([example.num_tokens for example in self.examples], dtype=np.int64)

    def epoch_batches(self, *, batch_size: int, seed: int, epoch: int) -> Sequence[list[int]]:
        """The order of one epoch: lists of indices into ``examples``; see ``batches.epoch_order``."""
        return epoch_order(self.lengths, batch_size, seed=seed, epoch=epoch)

    def batch(self, indices: Sequence[int]) -> TokenBatch:
        """The chosen examples side by side."""
        return collate([self.examples[index] for index in indices])


class KeptRows:
    """What training keeps of tokenized rows, a chunk at a time. Iterate it once; the counts are those of the rows so far."""

    def __init__(
        self,
        chunks: Iterable[list[Tokenized]],
        *,
        max_length: int,
        role: Literal["training", "validation"],
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Chunks of all rows in the file's order, as ``tokenize_all`` gives them; the rest as in ``prepare``."""
        self._chunks = chunks
        self._max_length = max_length
        self._role = role
        self._on_progress = on_progress
        self.num_kept = 0
        self.num_skipped = 0
        self.skipped: list[SourceLine] = []

    def __iter__(self) -> Iterator[list[TokenizedExample]]:
        """Yield the rows to keep.

        Raises:
            JobFailure: as in ``prepare``.
        """
        done = 0
        for chunk in self._chunks:
            kept = [row for row in chunk if self._keeps(row)]
            self.num_kept += len(kept)
            done += len(chunk)
            yield kept
            self._on_progress(done)
        if not self.num_kept:
            raise self._failure(
                f"None of its {self.num_skipped} example(s) has a token to train on: "
                f"every answer lies past the length limit of {self._max_length} tokens."
            )

    def notes(self) -> dict[str, Any]:
        """What is to be kept beside the tokens, as plain values; ``prepared_from`` reads them."""
        return {"num_skipped": self.num_skipped, "skipped": [source.line for source in self.skipped]}

    def _keeps(self, row: Tokenized) -> TypeGuard[TokenizedExample]:
        if isinstance(row, Refused):
            raise self._failure(f"Example {row.source.line} cannot be written in the base model's chat format: {row.reason}")
        if row.rendered.num_trained:
            return True
        self.num_skipped += 1
        if len(self.skipped) < MAX_KEPT_LINES:
            self.skipped.append(row.source)
        return False

    def _failure(self, sentence: str) -> JobFailure:
        role = self._role
        text = f"The job failed due to an invalid {role} file. {sentence}"
        return JobFailure(text, code=f"invalid_{role}_file", param=f"{role}_file")


def prepare(
    dataset: Dataset,
    renderer: ExampleRenderer,
    *,
    max_length: int,
    role: Literal["training", "validation"],
    on_progress: Callable[[int], None] = lambda _: None,
) -> Prepared:
    """Tokenize a whole data set in memory.

    Args:
        dataset: the examples.
        renderer: of the base.
        max_length: longest example, tokens.
        role: which of the job's files it is.
        on_progress: is given the number of examples done, from time to time.

    Raises:
        JobFailure: the base's chat template refuses a row, or no row has a single trained token; code
            ``invalid_training_file`` or ``invalid_validation_file``.
    """
    chunks = tokenize_all(dataset.examples, renderer, dataset.row_format, max_length=max_length)
    rows = KeptRows(chunks, max_length=max_length, role=role, on_progress=on_progress)
    table = table_in_memory(dataset.file_id, rows)
    return prepared_from(table, rows.notes(), dataset.file_id)


def prepared_from(table: TokenTable, notes: dict[str, Any], file_id: str) -> Prepared:
    """A table with the notes of the rows that it was made from."""
    return Prepared(
        examples=table,
        num_tokens=table.num_tokens,
        num_trained=table.num_trained,
        num_truncated=table.num_truncated,
        num_skipped=int(notes["num_skipped"]),
        skipped=tuple(SourceLine(file_id, int(line)) for line in notes["skipped"]),
    )
