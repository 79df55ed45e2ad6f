"""Where each line of a file lies once its examples are packed, and which other lines lie in the same sequence.

What it does: packs the lengths of a file's examples (``pack.py``) and answers by line. What it does not: tokenize, or copy tokens.
Called by ``worker/row_packing.py`` and ``preview.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from luthier.preprocessing.pack import Packing, pack

MAX_SHOWN_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one example lies. Numbers count from 0; ``end`` is exclusive."""

    sequence: int
    num_sequences: int
    start: int
    """First token inside the sequence."""
    end: int
    shared_with: tuple[int, ...]
    """The first 20 lines of the other examples of that sequence, in their order inside it; a line of several examples may stand twice."""
    num_shared_with: int
    """All other examples of that sequence."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "sequence": self.sequence,
            "num_sequences": self.num_sequences,
            "start": self.start,
            "end": self.end,
            "shared_with": list(self.shared_with),
            "num_shared_with": self.num_shared_with,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class FilePlaces:
    """All examples of a file in packed sequences."""

    packing: Packing
    lines_I: np.ndarray
    """int64 line of each example, ascending."""
    num_left_out: int
    """Lines that give no example: faulty, refused by the chat template, or without a trained token."""

    @cached_property
    def _sequences(self) -> list[list[int]]:
        return self.packing.sequences()

    def of_line(self, line: int) -> list[Place]:
        """The places of a line's examples, in their order; none when the line is left out."""
        first, last = np.searchsorted(self.lines_I, [line, line + 1]).tolist()
        return [self._place(index) for index in range(first, last)]

    def _place(self, index: int) -> Place:
        at = self.packing.placement(index)
        others = [int(self.lines_I[other]) for other in self._sequences[at.row] if other != index]
        return Place(
            sequence=at.row,
            num_sequences=self.packing.num_rows,
            start=at.start,
            end=at.end,
            shared_with=tuple(others[:MAX_SHOWN_LINES]),
            num_shared_with=len(others),
        )

    def to_dict(self) -> dict[str, Any]:
        """The whole file's figures as JSON."""
        return {
            "capacity": self.packing.capacity,
            "num_sequences": self.packing.num_rows,
            "num_examples": len(self.lines_I),
            "num_tokens": self.packing.num_tokens,
            "efficiency": self.packing.efficiency,
            "num_left_out": self.num_left_out,
        }


def pack_lines(lines: Sequence[int], lengths: Sequence[int], capacity: int, *, num_left_out: int) -> FilePlaces:
    """Pack a file.

    Args:
        lines: of each example, ascending.
        lengths: tokens of each example, 1 to ``capacity``.
        capacity: tokens of a sequence.
        num_left_out: lines without an example.
    """
    packing = pack(np.asarray(lengths, dtype=np.int64), capacity)
    return FilePlaces(packing=packing, lines_I=np.asarray(lines, dtype=np.int64), num_left_out=num_left_out)
