"""Token examples as columns of numbers: what a whole file's tokens are in memory, and on disk.

What it does: makes columns of examples, a chunk at a time, joins and cuts them, and gives each example back as it was; ids in the smallest
type that holds the vocabulary, weights as runs, spans as records. What it does not: choose where the columns lie (``cache.py`` puts them
into files). Called by ``tokenize.py``, ``stage.py`` and ``cache.py``.

A table of a large file stays small in memory when its columns are mapped files: a ``TokenizedExample`` is made when it is asked for.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import overload

import numpy as np

from luthier.core.examples import SourceLine
from luthier.core.tokens import SPAN, SPAN_KINDS, SPAN_ROLES, Rendered, RenderedRows, TokenizedExample, TokenSpan

_MOST_RECENT = 256
_PER_ROW = ("lines", "truncated", "trained")
_RAGGED = {"ends": ("ids",), "run_ends": ("run_stops", "run_weights"), "span_ends": ("spans",)}
"""Where each row's part of some columns ends."""

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
        "spans": SPAN,
    }


class TokenTable(Sequence[TokenizedExample]):
    """All examples of a file, in its order. Reading one makes the object; the columns answer for all at once."""

    def __init__(self, file_id: str, columns: Mapping[str, np.ndarray], roles: Sequence[str] = SPAN_ROLES) -> None:
        """Columns as ``column_types`` names them; ``roles`` are what the spans' numbers mean."""
        self.file_id = file_id
        self.columns = columns
        """To be read only."""
        self._roles = tuple(roles)
        self._ends = columns["ends"]
        self._recent: dict[int, TokenizedExample] = {}

    @property
    def lengths(self) -> np.ndarray:
        """int64 tokens of each example after cutting."""
        return np.diff(self._ends, prepend=0)

    @property
    def prompt_lengths(self) -> np.ndarray:
        """int64 tokens of each example before the first trained one; every example has a trained one, and none begins with it."""
        ends = self.columns["run_ends"]
        return self.columns["run_stops"][np.concatenate(([0], ends[:-1]))].astype(np.int64)

    @property
    def num_tokens(self) -> int:
        """Tokens of all examples."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def num_trained(self) -> int:
        """Tokens that count in the loss."""
        return int(self.columns["trained"].sum(dtype=np.int64))

    @property
    def num_truncated(self) -> int:
        """Examples that were cut."""
        return int(np.count_nonzero(self.columns["truncated"]))

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
        columns = self.columns
        tokens, runs, spans = (_row(columns[name], at) for name in ("ends", "run_ends", "span_ends"))
        weights = np.repeat(columns["run_weights"][runs], np.diff(columns["run_stops"][runs].astype(np.int64), prepend=0))
        rendered = Rendered(
            ids_T=columns["ids"][tokens].astype(np.int64),
            weights_T=weights.astype(np.float32, copy=False),
            spans=tuple(
                TokenSpan(start=start, end=end, kind=SPAN_KINDS[kind], message=message, role=self._roles[role])
                for start, end, message, kind, role in columns["spans"][spans].tolist()
            ),
        )
        source = SourceLine(self.file_id, int(columns["lines"][at]))
        return TokenizedExample(source=source, rendered=rendered, truncated=int(columns["truncated"][at]))


def _row(ends: np.ndarray, at: int) -> slice:
    return slice(int(ends[at - 1]) if at else 0, int(ends[at]))


class TableWriter:
    """Takes examples and passes each column's next piece on."""

    def __init__(self, columns: Mapping[str, Column], types: Mapping[str, np.dtype]) -> None:
        """One receiver for every column of ``types``."""
        self._columns = columns
        self._types = types
        self._totals = dict.fromkeys(_RAGGED, 0)
        self.num_rows = 0

    def add(self, examples: Sequence[TokenizedExample]) -> None:
        """Append a chunk of examples; a table is taken as it is."""
        if not examples:
            return
        table = examples if isinstance(examples, TokenTable) else table_of_examples(examples)
        assert table.columns["ids"].max() <= np.iinfo(self._types["ids"]).max, "the tokenizer gives ids that the model does not have"
        for name, kind in self._types.items():
            values = table.columns[name]
            if name in _RAGGED:
                values = values + self._totals[name]
                self._totals[name] = int(values[-1])
            self._columns[name](values.astype(kind, copy=False))
        self.num_rows += len(table)


def table_of_examples(examples: Sequence[TokenizedExample]) -> TokenTable:
    """A table in memory of at least one example."""
    spans = [
        (span.start, span.end, span.message, SPAN_KINDS.index(span.kind), SPAN_ROLES.index(span.role))
        for example in examples
        for span in example.rendered.spans
    ]
    rows = RenderedRows(
        chosen=tuple(range(len(examples))),
        ids_N=np.concatenate([e.rendered.ids_T for e in examples]),
        weights_N=np.concatenate([e.rendered.weights_T for e in examples]),
        ends_R=np.cumsum([e.num_tokens for e in examples], dtype=np.int64),
        spans_S=np.array(spans, dtype=SPAN),
        span_ends_R=np.cumsum([len(e.rendered.spans) for e in examples], dtype=np.int64),
    )
    truncated_R = np.array([e.truncated for e in examples], dtype=np.int64)
    return table_of_rows(examples[0].source.file_id, rows, lines=[e.source.line for e in examples], truncated_R=truncated_R)


def table_of_rows(file_id: str, rows: RenderedRows, *, lines: Sequence[int], truncated_R: np.ndarray) -> TokenTable:
    """A table in memory of at least one row; ``lines`` and ``truncated_R`` (int64 tokens cut off) tell of each of them."""
    stops, runs = _runs(rows.weights_N, rows.ends_R)
    firsts = rows.ends_R - np.diff(rows.ends_R, prepend=0)
    columns = {
        "ids": rows.ids_N,
        "ends": rows.ends_R,
        "lines": np.array(lines, dtype=np.int64),
        "truncated": truncated_R,
        "trained": _per_row(rows.weights_N != 0, rows.ends_R),
        "run_ends": np.cumsum(runs),
        "run_stops": stops - np.repeat(firsts, runs),
        "run_weights": rows.weights_N[stops - 1],
        "span_ends": rows.span_ends_R,
        "spans": rows.spans_S,
    }
    return TokenTable(file_id, columns)


def chosen_rows(table: TokenTable, order: np.ndarray) -> TokenTable:
    """Some rows of a table, or all, in a new order (int64 numbers of rows)."""
    columns = {name: table.columns[name][order] for name in _PER_ROW}
    for ends, names in _RAGGED.items():
        counts = np.diff(table.columns[ends], prepend=0)
        firsts, chosen = (np.cumsum(counts) - counts)[order], counts[order]
        columns[ends] = np.cumsum(chosen)
        places = np.repeat(firsts - (columns[ends] - chosen), chosen)
        places += np.arange(len(places))
        columns |= {name: table.columns[name][places] for name in names}
    return TokenTable(table.file_id, columns)


def cut_rows(rows: RenderedRows, length: int) -> tuple[RenderedRows, np.ndarray]:
    """Rows without the tokens past a length, and how many each lost (int64)."""
    lengths = np.diff(rows.ends_R, prepend=0)
    surplus_R = np.maximum(lengths - length, 0)
    if not surplus_R.any():
        return rows, surplus_R
    kept_N = np.arange(len(rows.ids_N)) - np.repeat(rows.ends_R - lengths, lengths) < length
    kept_S = rows.spans_S["start"] < length
    spans_S = rows.spans_S[kept_S]
    spans_S["end"] = np.minimum(spans_S["end"], length)
    cut = RenderedRows(
        chosen=rows.chosen,
        ids_N=rows.ids_N[kept_N],
        weights_N=rows.weights_N[kept_N],
        ends_R=np.cumsum(lengths - surplus_R),
        spans_S=spans_S,
        span_ends_R=np.cumsum(kept_S)[rows.span_ends_R - 1],
    )
    return cut, surplus_R


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
    return TokenTable(file_id, {name: np.concatenate(found) if found else np.zeros(0, dtype=types[name]) for name, found in pieces.items()})
