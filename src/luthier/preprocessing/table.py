"""Token examples as columns of numbers: what a whole file's tokens are in memory, and on disk.

What it does: takes examples in, a chunk at a time, and gives each back as it was; ids in the smallest type that holds the vocabulary,
weights as runs, spans as records. What it does not: choose where the columns lie (``cache.py`` puts them into files). Called by
``stage.py`` and ``cache.py``.

A table of a large file stays small in memory when its columns are mapped files: a ``TokenizedExample`` is made when it is asked for.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from luthier.core.examples import SourceLine
from luthier.core.tokens import Rendered, TokenizedExample, TokenKind, TokenSpan

_KINDS = tuple(TokenKind)
_SPAN = np.dtype([("start", "<u4"), ("end", "<u4"), ("message", "<i4"), ("kind", "u1"), ("role", "u1")])
_MOST_ROLES = 256
_MOST_RECENT = 256

Column = Callable[[np.ndarray], None]
"""Takes the next piece of one column."""


def column_types(vocab_size: int) -> dict[str, np.dtype]:
    """Name and type of every column; little-endian, so that a file means the same on every machine.

    Columns with one entry a row: ``ends`` (tokens up to and with the row, over all rows), ``run_ends``, ``span_ends`` (the same for
    the runs of equal weight and for the spans), ``lines``, ``truncated``, ``trained``. The others: ``ids`` of all tokens, ``run_stops``
    (where a run ends inside its row), ``run_weights``, ``spans``.
    """
    return {
        "ids": np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4"),
        "ends": np.dtype("<i8"),
        "lines": np.dtype("<i8"),
        "truncated": np.dtype("<i8"),
        "trained": np.dtype("<i4"),
        "run_ends": np.dtype("<i8"),
        "run_stops": np.dtype("<u4"),
        "run_weights": np.dtype("<f4"),
        "span_ends": np.dtype("<i8"),
        "spans": _SPAN,
    }


class TokenTable(Sequence[TokenizedExample]):
    """All examples of a file, in its order. Reading one makes the object; the columns answer for all at once."""

    def __init__(self, file_id: str, columns: Mapping[str, np.ndarray], roles: Sequence[str]) -> None:
        """Columns as ``column_types`` names them; ``roles`` are what the spans' numbers mean."""
        self._file_id = file_id
        self._columns = columns
        self._roles = tuple(roles)
        self._ends = columns["ends"]
        self._recent: dict[int, TokenizedExample] = {}

    @property
    def lengths(self) -> np.ndarray:
        """int64 tokens of each example after cutting."""
        return np.diff(self._ends, prepend=0)

    @property
    def num_tokens(self) -> int:
        """Tokens of all examples."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def num_trained(self) -> int:
        """Tokens that count in the loss."""
        return int(self._columns["trained"].sum(dtype=np.int64))

    @property
    def num_truncated(self) -> int:
        """Examples that were cut."""
        return int(np.count_nonzero(self._columns["truncated"]))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> TokenizedExample: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[TokenizedExample, ...]: ...
    def __getitem__(self, index: int | slice) -> TokenizedExample | tuple[TokenizedExample, ...]:
        if isinstance(index, slice):
            return tuple(self._example(at) for at in range(*index.indices(len(self))))
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"There are {len(self)} examples; {index} is not one of them.")
        # A step asks for the same few examples several times.
        found = self._recent.get(at)
        if found is None:
            if len(self._recent) >= _MOST_RECENT:
                self._recent.clear()
            found = self._recent[at] = self._example(at)
        return found

    def _example(self, at: int) -> TokenizedExample:
        columns = self._columns
        tokens, runs, spans = (_row(columns[name], at) for name in ("ends", "run_ends", "span_ends"))
        weights = np.repeat(columns["run_weights"][runs], np.diff(columns["run_stops"][runs].astype(np.int64), prepend=0))
        rendered = Rendered(
            ids_T=columns["ids"][tokens].astype(np.int64),
            weights_T=weights.astype(np.float32, copy=False),
            spans=tuple(
                TokenSpan(start=start, end=end, kind=_KINDS[kind], message=message, role=self._roles[role])
                for start, end, message, kind, role in columns["spans"][spans].tolist()
            ),
        )
        source = SourceLine(self._file_id, int(columns["lines"][at]))
        return TokenizedExample(source=source, rendered=rendered, truncated=int(columns["truncated"][at]))


def _row(ends: np.ndarray, at: int) -> slice:
    return slice(int(ends[at - 1]) if at else 0, int(ends[at]))


@dataclass(slots=True)
class _Totals:
    tokens: int = 0
    runs: int = 0
    spans: int = 0


class TableWriter:
    """Takes examples and passes each column's next piece on."""

    def __init__(self, columns: Mapping[str, Column], types: Mapping[str, np.dtype]) -> None:
        """One receiver for every column of ``types``."""
        self._columns = columns
        self._types = types
        self._numbers: dict[str, int] = {}
        self._totals = _Totals()
        self.num_rows = 0

    @property
    def roles(self) -> tuple[str, ...]:
        """What the numbers of roles mean."""
        return tuple(self._numbers)

    def add(self, examples: Sequence[TokenizedExample]) -> None:
        """Append a chunk of examples."""
        if not examples:
            return
        totals = self._totals
        lengths = np.array([e.num_tokens for e in examples], dtype=np.int64)
        ends = np.cumsum(lengths)
        weights = np.concatenate([e.rendered.weights_T for e in examples])
        stops, runs = _runs(weights, ends)
        firsts = ends - lengths
        ids = np.concatenate([e.rendered.ids_T for e in examples])
        assert ids.max() <= np.iinfo(self._types["ids"]).max, "the tokenizer gives ids that the model does not have"
        self._put("ids", ids)
        self._put("ends", totals.tokens + ends)
        self._put("lines", np.array([e.source.line for e in examples]))
        self._put("truncated", np.array([e.truncated for e in examples]))
        self._put("trained", _per_row(weights != 0, ends))
        self._put("run_ends", totals.runs + np.cumsum(runs))
        self._put("run_stops", stops - np.repeat(firsts, runs))
        self._put("run_weights", weights[stops - 1])
        spans = [self._span(span) for e in examples for span in e.rendered.spans]
        counts = np.array([len(e.rendered.spans) for e in examples], dtype=np.int64)
        self._put("span_ends", totals.spans + np.cumsum(counts))
        self._put("spans", np.array(spans, dtype=_SPAN))
        totals.tokens += int(ends[-1])
        totals.runs += len(stops)
        totals.spans += len(spans)
        self.num_rows += len(examples)

    def _put(self, name: str, values: np.ndarray) -> None:
        self._columns[name](values.astype(self._types[name], copy=False))

    def _span(self, span: TokenSpan) -> tuple[int, int, int, int, int]:
        number = self._numbers.get(span.role)
        if number is None:
            number = self._numbers[span.role] = len(self._numbers)
            assert number < _MOST_ROLES
        return span.start, span.end, span.message, _KINDS.index(span.kind), number


def _runs(weights: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where runs of equal weight end, rows kept apart, and how many each row has. Rows are at least one token long."""
    last = np.zeros(len(weights), dtype=bool)
    last[:-1] = weights[1:] != weights[:-1]
    last[ends - 1] = True
    return np.flatnonzero(last) + 1, _per_row(last, ends)


def _per_row(marked: np.ndarray, ends: np.ndarray) -> np.ndarray:
    return np.diff(np.cumsum(marked)[ends - 1], prepend=0)


def table_in_memory(file_id: str, chunks: Iterable[Sequence[TokenizedExample]]) -> TokenTable:
    """A table of all examples whose columns are ordinary arrays."""
    types = column_types(1 << 32)
    pieces: dict[str, list[np.ndarray]] = {name: [] for name in types}
    writer = TableWriter({name: piece.append for name, piece in pieces.items()}, types)
    for chunk in chunks:
        writer.add(chunk)
    columns = {name: np.concatenate(found) if found else np.zeros(0, dtype=types[name]) for name, found in pieces.items()}
    return TokenTable(file_id, columns, writer.roles)
