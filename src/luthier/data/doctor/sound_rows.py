"""The sound rows of a file in the doctor's shape, and a count of the others.

What it does: checks each line as a job does, and passes on what trains. What it does not: report faults one by one
(``data/check.py`` does), or examine. Called by ``examine.py`` and ``detect.py``.
"""

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.core.examples import RowFormat
from luthier.data.check import FileRole, LineChecker, is_error, rule_of_numbers
from luthier.data.doctor.row import DoctorRow, row_of
from luthier.data.parse import parse_object
from luthier.data.read import read_lines
from luthier.data.validate import Method

_PROGRESS_BYTES = 1 << 20


@dataclass(slots=True, kw_only=True)
class SoundRow:
    """A row that trains."""

    row: DoctorRow
    raw: Mapping[str, Any]
    """Its JSON object."""
    data: bytes
    """Its line."""


class SoundRows:
    """Reads a file once; ``row_format`` and ``faults`` are complete after the last row."""

    def __init__(self, path: Path, *, role: FileRole, method: Method | None, max_line_bytes: int) -> None:
        self._path = path
        self._role: FileRole = role
        self._max_line_bytes = max_line_bytes
        self._checker = LineChecker(path.name, path, role=role, method=method, max_line_bytes=max_line_bytes)
        self.num_rows = 0
        self.num_faulty = 0
        """Lines over which a job fails."""
        self.first_fault: str | None = None

    @property
    def method(self) -> Method | None:
        """What the rows are for: as asked, or as the first row says."""
        return self._checker.method

    @property
    def row_format(self) -> RowFormat | None:
        """None until a row could be read."""
        return self._checker.row_format

    def read(self, on_progress: Callable[[int], None] = lambda _: None) -> Iterator[SoundRow]:
        """The rows; ``on_progress`` is given the number of bytes read so far, about once a megabyte."""
        checker, seen, told = self._checker, 0, 0
        for line in read_lines(self._path, max_line_bytes=self._max_line_bytes):
            seen += self._max_line_bytes if line.data is None else len(line.data) + 1
            if seen - told >= _PROGRESS_BYTES:
                told = seen
                on_progress(seen)
            raw, found = checker.take(line)
            faults = [finding for finding in found if is_error(finding)]
            if faults:
                # A blank line before a row makes the file faulty, not the row.
                self.first_fault = self.first_fault or faults[0].message
                self.num_faulty += 1
            if checker.hopeless:
                return
            if raw is None or any(finding.rule != "blank_line" for finding in faults):
                continue
            assert line.data is not None
            assert checker.row_format is not None
            self.num_rows += 1
            yield SoundRow(row=row_of(raw, checker.row_format, line.number), raw=raw, data=line.data)
        if self.first_fault is None:
            number = rule_of_numbers(self._role, checker.method, self.num_rows)
            self.first_fault = None if number is None else number[1]


def read_again(path: Path, lines: Set[int], row_format: RowFormat, *, max_line_bytes: int) -> Iterator[SoundRow]:
    """Rows that were sound when the file was read before; one that is not there any more is left out."""
    if not lines:
        return
    last = max(lines)
    for line in read_lines(path, max_line_bytes=max_line_bytes):
        if line.number in lines and line.data is not None:
            raw = parse_object(line.data)
            if isinstance(raw, dict):
                yield SoundRow(row=row_of(raw, row_format, line.number), raw=raw, data=line.data)
        if line.number >= last:
            return
