"""Stage 2: a ``Dataset`` becomes ``Prepared`` token examples that can be batched.

What it does: tokenizes every example; refuses a set with rows that teach nothing, by line, or leaves them out when that was asked
for. What it does not: decide numbers (``training/resolve.py``), keep tokens for other jobs (``cache.py``). Called by
``worker/token_cache.py``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from luthier.core.examples import Dataset, RowFormat, SourceLine
from luthier.core.tokens import TokenBatch, TokenizedExample
from luthier.preprocessing.batches import collate, epoch_order
from luthier.preprocessing.learnable import FileRole, Unlearnable, nothing_left
from luthier.preprocessing.mismatched import MismatchedRows
from luthier.preprocessing.pack import pack_rows
from luthier.preprocessing.table import TokenTable, table_in_memory
from luthier.preprocessing.tokenize import ExampleRenderer, TokenizedChunk, tokenize_all

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
    """Rows left out, as asked, because none of their tokens is trained (all of the answer lay past the cut)."""
    skipped: tuple[SourceLine, ...] = ()
    """The first 50 of the rows left out."""
    num_rows: int = 0
    """Rows that the examples come from: fewer than examples where the chat template rewrites earlier turns, or each row is a pair."""
    rows_per_example: int = 1
    """Of ``examples``, so many make one: 2 where each is a pair of answers, the preferred one first."""

    @property
    def num_examples(self) -> int:
        """What a step takes ``batch_size`` of: examples, or pairs."""
        return len(self.examples) // self.rows_per_example

    @property
    def lengths(self) -> np.ndarray:
        """int64 tokens of each example."""
        if isinstance(self.examples, TokenTable | MismatchedRows):
            return self.examples.lengths
        return np.array([example.num_tokens for example in self.examples], dtype=np.int64)

    def epoch_batches(self, *, batch_size: int, seed: int, epoch: int) -> Sequence[list[int]]:
        """The order of one epoch: lists of indices into ``examples``; see ``batches.epoch_order``. The rows of a pair stand together."""
        if self.rows_per_example == 1:
            return epoch_order(self.lengths, batch_size, seed=seed, epoch=epoch)
        longest = self.lengths.reshape(-1, self.rows_per_example).max(axis=1)
        return epoch_order(longest, batch_size, seed=seed, epoch=epoch, rows_per_example=self.rows_per_example)

    def packed(self, indices: Sequence[int], capacity: int) -> list[list[int]]:
        """A step's rows in packed sequences; see ``pack.pack_rows``."""
        lengths = [self.examples[index].num_tokens for index in indices]
        return pack_rows(indices, lengths, capacity, rows_per_example=self.rows_per_example)

    def batch(self, indices: Sequence[int]) -> TokenBatch:
        """The chosen examples side by side."""
        return collate([self.examples[index] for index in indices])

    def mismatched(self, max_length: int) -> "Prepared":
        """Of pairs: each prompt with the answers of another pair; see ``mismatched.partners``. Rows are made when they are asked for, so
        that trained tokens are counted as before these are cut."""
        rows = MismatchedRows(self.examples, max_length)
        return replace(self, examples=rows, num_tokens=int(rows.lengths.sum()))


class KeptRows:
    """What training keeps of tokenized rows, a chunk at a time. Iterate it once; the counts are those of the rows so far."""

    def __init__(
        self,
        chunks: Iterable[TokenizedChunk],
        *,
        max_length: int,
        role: FileRole,
        skip_untrained: bool = False,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Chunks of all rows in the file's order, as ``tokenize_all`` gives them; the rest as in ``prepare``."""
        self._chunks = chunks
        self._max_length = max_length
        self._role: FileRole = role
        self._skip_untrained = skip_untrained
        self._on_progress = on_progress
        self._found = Unlearnable()
        self.num_rows = 0
        """Rows that gave an example."""
        self.skipped: list[SourceLine] = []

    def __iter__(self) -> Iterator[TokenTable]:
        """Yield the examples to keep, in tables that may be empty.

        Raises:
            JobFailure: as in ``prepare``, when all rows have been looked at.
        """
        done = 0
        for chunk in self._chunks:
            self._note(chunk)
            yield chunk.table
            done += len(chunk)
            self._on_progress(done)
        self._found.raise_any(self._role, max_length=self._max_length, skip_untrained=self._skip_untrained)
        if not self.num_rows:
            raise nothing_left(done, self._role, self._max_length)

    def notes(self) -> dict[str, Any]:
        """What is to be kept beside the tokens, as plain values; ``prepared_from`` reads them."""
        lines = [source.line for source in self.skipped[:MAX_KEPT_LINES]]
        return {"num_rows": self.num_rows, "num_skipped": len(self.skipped), "skipped": lines}

    def _note(self, chunk: TokenizedChunk) -> None:
        for i, (line, count) in enumerate(zip(chunk.lines, chunk.counts, strict=True)):
            if i in chunk.refusals:
                self._found.refused.append((line, chunk.refusals[i]))
            elif not count:
                self._found.untrained.append(line)
                self.skipped.append(SourceLine(chunk.table.file_id, line))
            else:
                self.num_rows += 1


def prepare(
    dataset: Dataset,
    renderer: ExampleRenderer,
    *,
    max_length: int,
    role: FileRole,
    skip_untrained: bool = False,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Prepared:
    """Tokenize a whole data set in memory. Every example that it gives has at least one trained token.

    Args:
        dataset: checked rows.
        renderer: of the base.
        max_length: longest example in tokens; what goes beyond is cut off at the end.
        role: which file it is, for the wording of a failure.
        skip_untrained: leave rows without a trained token out, and count them, instead of failing.
        on_progress: is given the number of rows done, from time to time.

    Raises:
        JobFailure: rows that the base's chat template refuses, rows without a single trained token, or no row left; code
            ``invalid_training_file`` or ``invalid_validation_file``. The sentence names all lines (50 at most).
    """
    chunks = tokenize_all(dataset.examples, renderer, dataset.row_format, max_length=max_length)
    rows = KeptRows(chunks, max_length=max_length, role=role, skip_untrained=skip_untrained, on_progress=on_progress)
    table = table_in_memory(dataset.file_id, rows)
    return prepared_from(table, rows.notes(), dataset)


def prepared_from(table: TokenTable, notes: dict[str, Any], dataset: Dataset) -> Prepared:
    """A table with the notes of the rows that it was made from, which are those of ``dataset``."""
    return Prepared(
        examples=table,
        num_tokens=table.num_tokens,
        num_trained=table.num_trained,
        num_truncated=table.num_truncated,
        num_skipped=int(notes["num_skipped"]),
        skipped=tuple(SourceLine(dataset.file_id, int(line)) for line in notes["skipped"]),
        num_rows=int(notes["num_rows"]),
        rows_per_example=2 if dataset.row_format is RowFormat.PREFERENCE else 1,
    )
