"""Examples into sequences of a fixed length, as full as best-fit makes them, never splitting one.

What it does: best-fit decreasing over token counts, as Ding et al. 2024 use it for training documents ("Fewer Truncations
Improve Language Modeling", arXiv:2404.10830), and says how full the sequences are. What it does not: copy tokens, or know what
the model does with a sequence. Called by ``stage.py`` for the rows of a step, ``places.py``, ``worker/pipelines.py`` and
``benchmarks/bench_tokenize.py``.

Longest first, each example goes into the fullest sequence that still has room for it, or opens a new one. Sequences are kept by their free
room; examples of one length are placed together, so the work grows with the examples and the distinct lengths, not with their product.
The result follows from the lengths alone: equal ones keep the file's order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one example lies; the fields are those of a span of tokens."""

    row: int
    """Sequence, from 0."""
    start: int
    """First token inside the sequence."""
    end: int
    """Exclusive."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packing:
    """All examples in their sequences. I examples."""

    capacity: int
    """Tokens of a sequence."""
    num_rows: int
    """Sequences."""
    num_tokens: int
    """Tokens of all examples."""
    rows_I: np.ndarray
    """int64 sequence of each example."""
    starts_I: np.ndarray
    """int64 first token of each example inside its sequence."""
    lengths_I: np.ndarray
    """int64 tokens of each example."""

    @property
    def efficiency(self) -> float:
        """Tokens divided by the places of all sequences, 0 to 1."""
        return self.num_tokens / (self.num_rows * self.capacity) if self.num_rows else 0.0

    def placement(self, index: int) -> Placement:
        """Where an example lies."""
        start = int(self.starts_I[index])
        return Placement(int(self.rows_I[index]), start, start + int(self.lengths_I[index]))

    def sequences(self) -> list[list[int]]:
        """Indices of the examples of each sequence, in their order inside it."""
        order = np.lexsort((self.starts_I, self.rows_I))
        bounds = np.searchsorted(self.rows_I[order], np.arange(1, self.num_rows))
        return [part.tolist() for part in np.split(order, bounds)] if self.num_rows else []


class _Rooms:
    """Sequences by their free room: buckets of sequence numbers, and one bit per room that has any."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._buckets: dict[int, list[np.ndarray]] = {}
        self._present = 0
        self.opened = 0

    def tightest(self, length: int) -> int | None:
        """The least free room that is at least ``length``."""
        fitting = self._present >> length
        return length + (fitting & -fitting).bit_length() - 1 if fitting else None

    def take(self, room: int, most: int) -> np.ndarray:
        """Up to ``most`` sequences with that room, those that got it first."""
        found = np.concatenate(self._buckets.pop(room))
        self._present &= ~(1 << room)
        if len(found) > most:
            self.put(room, found[most:])
        return found[:most]

    def open(self, number: int) -> np.ndarray:
        """New sequences."""
        self.opened += number
        return np.arange(self.opened - number, self.opened)

    def put(self, room: int, sequences: np.ndarray) -> None:
        """Remember sequences that have room left."""
        if room and len(sequences):
            self._buckets.setdefault(room, []).append(sequences)
            self._present |= 1 << room


def pack(lengths: Sequence[int] | np.ndarray, capacity: int) -> Packing:
    """Place every example.

    Args:
        lengths: tokens of each example, at least 1 and at most ``capacity``.
        capacity: tokens of a sequence.

    Raises:
        ValueError: a length is out of these bounds.
    """
    lengths_I = np.asarray(lengths, dtype=np.int64)
    if lengths_I.size and not 1 <= lengths_I.min() <= lengths_I.max() <= capacity:
        raise ValueError(f"Every example must have between 1 and {capacity} tokens.")
    order = np.argsort(-lengths_I, kind="stable")
    rows_I, starts_I = np.zeros_like(lengths_I), np.zeros_like(lengths_I)
    rooms = _Rooms(capacity)
    distinct, firsts, counts = np.unique(-lengths_I[order], return_index=True, return_counts=True)
    for length, first, count in zip((-distinct).tolist(), firsts.tolist(), counts.tolist(), strict=True):
        waiting = order[first : first + count]
        while len(waiting):
            waiting = _place(waiting, length, rooms, capacity, rows_I, starts_I)
    return Packing(
        capacity=capacity,
        num_rows=rooms.opened,
        num_tokens=int(lengths_I.sum()),
        rows_I=rows_I,
        starts_I=starts_I,
        lengths_I=lengths_I,
    )


def pack_rows(indices: Sequence[int], lengths: Sequence[int], capacity: int, *, rows_per_example: int = 1) -> list[list[int]]:
    """The rows of one step in sequences of at most ``capacity`` tokens, in each the longest first; a longer row (or pair) lies alone.

    Args:
        indices: the rows; those of a pair stand together, and stay together.
        lengths: tokens of each of them.
        capacity: tokens of a sequence.
        rows_per_example: 2 where two neighbouring rows are a pair.
    """
    sizes = np.asarray(lengths, dtype=np.int64).reshape(-1, rows_per_example).sum(axis=1)
    rows = np.asarray(indices, dtype=np.int64).reshape(-1, rows_per_example)
    fitting = np.flatnonzero(sizes <= capacity)
    sequences = pack(sizes[fitting], capacity).sequences()
    return [*rows[sizes > capacity].tolist(), *(rows[fitting[examples]].reshape(-1).tolist() for examples in sequences)]


def _place(waiting: np.ndarray, length: int, rooms: _Rooms, capacity: int, rows_I: np.ndarray, starts_I: np.ndarray) -> np.ndarray:
    """Put examples of one length into the tightest sequences; returns those that are still without a place.

    A sequence that took one stays the tightest while another fits: its room only became smaller. So each is filled up in one go.
    """
    room = rooms.tightest(length)
    each = (capacity if room is None else room) // length
    needed = -(-len(waiting) // each)
    sequences = rooms.open(needed) if room is None else rooms.take(room, needed)
    room = capacity if room is None else room
    placed = min(len(waiting), each * len(sequences))
    now = waiting[:placed]
    rows_I[now] = np.repeat(sequences, each)[:placed]
    starts_I[now] = (capacity - room) + length * (np.arange(placed) % each)
    in_last = placed - each * (len(sequences) - 1)
    rooms.put(room - each * length, sequences[:-1])
    rooms.put(room - in_last * length, sequences[-1:])
    return waiting[placed:]
