"""A finding before its excerpts are read, and the words and numbers that all findings are made of.

What it does not: find anything. Called by every check of this package.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from luthier.core.doctor_report import MAX_EXAMPLES, MAX_LINES, DoctorFinding
from luthier.data.doctor.row import DoctorRow

Rows = Mapping[int, DoctorRow]
"""Line -> row, for the lines that were asked for."""
_EXCERPT = 100
_PRIVATE = re.compile(r"\S*@\S*|\d[\d .-]{5,}\d|[!-~]{25,}")
"""Addresses, long numbers, and words so long that they may be keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A finding whose examples stand in the file: the lines to read again, and how their rows are shown."""

    finding: DoctorFinding
    needs: tuple[int, ...] = ()
    show: Callable[[Rows], list[str]] | None = None

    def complete(self, rows: Rows) -> DoctorFinding:
        """The finding with its examples; ``rows`` holds at least the rows that it needs."""
        if self.show is None:
            return self.finding
        return replace(self.finding, examples=tuple(self.show(rows)[:MAX_EXAMPLES]))


def first_lines(lines: NDArray[np.uint32]) -> tuple[int, ...]:
    """The least of these lines, ascending."""
    return tuple(np.sort(lines)[:MAX_LINES].tolist())


def count_of(number: int, thing: str) -> str:
    """``1 row``, ``1,234 rows``; a thing that ends with y or s takes its plural: ``copy``, ``class``."""
    if number == 1:
        return f"1 {thing}"
    plural = f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}es" if thing.endswith("s") else f"{thing}s"
    return f"{number:,} {plural}"


def share_of(part: int, whole: int) -> str:
    """A share in percent; a small one with a digit behind the point, and never 0 for what is there."""
    share = 100 * part / whole if whole else 0.0
    return "less than 0.1 %" if 0 < share < 0.1 else f"{share:.1f} %" if share < 10 else f"{share:.0f} %"


def rows_of(count: int, whole: int, one: str, several: str) -> str:
    """How many rows of all do something: ``12 rows of 240 (5.0 %) have``."""
    return f"{count_of(count, 'row')} of {whole:,} ({share_of(count, whole)}) {one if count == 1 else several}"


def named_lines(lines: tuple[int, ...], shown: int = 5) -> str:
    """``line 3``, ``lines 3, 17 and 21``, ``lines 1, 2, 3, 4, 5 and more``."""
    if len(lines) == 1:
        return f"line {lines[0]:,}"
    names = [f"{line:,}" for line in lines[:shown]]
    return f"lines {', '.join(names)} and more" if len(lines) > shown else f"lines {', '.join(names[:-1])} and {names[-1]}"


def excerpt(text: str, length: int = _EXCERPT, *, masked: bool = True) -> str:
    """The beginning of a text on one line, in double quotes, without anything that a terminal would obey.

    With ``masked``, words that look private are replaced: a report is passed on more freely than its file.
    """
    piece = " ".join(text[: length * 4].split())
    piece = _PRIVATE.sub("***", piece) if masked else piece
    shown = "".join(mark if mark.isprintable() else "?" for mark in piece[:length])
    return f'"{shown}{"…" if len(piece) > length or len(text) > length * 4 else ""}"'


def fold(text: str) -> str:
    """The text without regard to case and spaces."""
    return " ".join(text.casefold().split())


def question_of(row: DoctorRow) -> str:
    """What is asked last before the answer: the last text of the user (or else of a tool or the system) in the prompt."""
    asked = [text for text in row.texts if not text.trained]
    return next((text.text for text in reversed(asked) if text.role == "user"), asked[-1].text if asked else "")


def repeats(keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which entries repeat an earlier one."""
    found = np.zeros(len(keys), dtype=bool)
    order = np.argsort(keys, kind="stable")
    found[order[1:]] = keys[order[1:]] == keys[order[:-1]]
    return found


def combined(*keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One key for several: equal where all of them are equal, and (but for chance of 2^-64) nowhere else."""
    total = np.zeros(len(keys[0]), dtype=np.uint64)
    for key in keys:
        total = (total ^ key) * np.uint64(0x9E3779B97F4A7C15)
        total ^= total >> np.uint64(29)
    return total
