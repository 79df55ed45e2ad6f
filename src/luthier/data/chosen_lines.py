"""Checks chosen lines of a file, however long the file is, without reading the others into Python.

What it does: counts lines and finds where chosen ones begin by counting line ends in blocks (2 GB take about a second); judges
each chosen line by the rules of its file. What it does not: judge the file (``check.py``). Called by ``worker/row_preview.py``,
``worker/row_packing.py`` and ``worker/row_losses.py``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from luthier.core.errors import InvalidRequest
from luthier.core.examples import Example, LineError, RowFormat, SourceLine
from luthier.data.check import LineChecker, is_error
from luthier.data.read import UTF8_BOM, RawLine, read_lines
from luthier.data.validate import Method, any_example_of

_BLOCK_BYTES = 1 << 20
_STEP_BYTES = 1 << 14


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedLine:
    """One line as the check sees it."""

    number: int
    """1-based."""
    row: dict[str, Any] | None
    """The parsed row; None when the line is blank or cannot be parsed."""
    row_format: RowFormat | None
    findings: tuple[LineError, ...]
    """Faults and warnings, in the order in which a job would meet them."""
    is_blank: bool = False

    @property
    def is_sound(self) -> bool:
        """Whether a job would take the row."""
        return self.row is not None and not any(is_error(finding) for finding in self.findings)

    def example(self, file_id: str) -> Example:
        """The example that a sound line says."""
        assert self.row is not None
        assert self.row_format is not None
        return any_example_of(self.row, self.row_format, SourceLine(file_id, self.number))


def count_lines(path: Path) -> int:
    """Lines of a file, blank ones and a last one without a line end counted."""
    num_ends, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            num_ends += block.count(b"\n")
            last = block
    return num_ends + (not last.endswith(b"\n"))


def offsets_of_lines(path: Path, numbers: Sequence[int]) -> dict[int, int]:
    """The byte at which each of these 1-based lines begins; a line that the file does not have is left out."""
    wanted = sorted(set(numbers), reverse=True)
    found: dict[int, int] = {}
    size = path.stat().st_size
    if wanted and wanted[-1] == 1:
        found[wanted.pop()] = 0
    line, start = 1, 0
    with path.open("rb") as file:
        while wanted and (block := file.read(_BLOCK_BYTES)):
            num_ends, passed, at = block.count(b"\n"), 0, 0
            while wanted and wanted[-1] <= line + num_ends:
                at = _after(block, at, wanted[-1] - line - passed)
                passed = wanted[-1] - line
                found[wanted.pop()] = start + at
            line, start = line + num_ends, start + len(block)
    return {number: offset for number, offset in found.items() if offset < size}


def _after(block: bytes, at: int, num_ends: int) -> int:
    """The place behind so many line ends, seen from ``at``; the block has them."""
    while num_ends and (passed := block.count(b"\n", at, at + _STEP_BYTES)) < num_ends:
        at, num_ends = at + _STEP_BYTES, num_ends - passed
    for _ in range(num_ends):
        at = block.index(b"\n", at) + 1
    return at


def rows_of(path: Path, *, method: Method | None, max_line_bytes: int) -> RowFormat | None:
    """What the rows of a file are, as its first row says where ``method`` does not; None when that row cannot be read.

    Raises:
        OSError: the file cannot be read.
    """
    checker = LineChecker(path.name, path, role="training", method=method, max_line_bytes=max_line_bytes)
    first = next(read_lines(path, max_line_bytes=max_line_bytes), None)
    if first is not None:
        checker.take(first)
    return checker.row_format


def check_lines(
    path: Path, numbers: Sequence[int], *, method: Method | None, max_line_bytes: int, file_id: str | None = None
) -> Iterator[CheckedLine]:
    """Judge chosen lines, in the order asked for. The file's first row says what the rows are, where ``method`` does not.

    A file whose beginning says that it is no JSONL at all (compressed, UTF-16, one array) gives that finding, once, for
    whatever line was asked for.

    Raises:
        InvalidRequest: the file has no such line.
        OSError: the file cannot be read.
    """
    offsets = offsets_of_lines(path, numbers)
    missing = next((number for number in numbers if number not in offsets), None)
    if missing is not None:
        num_lines = count_lines(path)
        has = f"has {num_lines:,} line{'s'[: num_lines != 1]}" if num_lines else "is empty"
        raise InvalidRequest(f"{path.name} {has}; there is no line {missing:,}.")
    checker = LineChecker(file_id or path.name, path, role="training", method=method, max_line_bytes=max_line_bytes)
    first = next(read_lines(path, max_line_bytes=max_line_bytes), None)
    row, findings = checker.take(first) if first is not None else (None, [])
    with path.open("rb") as file:
        for number in numbers:
            if not checker.hopeless and (first is None or number != first.number):
                line = _read_at(file, offsets[number], number, max_line_bytes)
                if line.data is not None and not line.data.strip():
                    yield CheckedLine(number=number, row=None, row_format=checker.row_format, findings=(), is_blank=True)
                    continue
                checker.skip_to(number)
                row_here, findings_here = checker.take(line)
            else:
                row_here, findings_here = row, findings
            # Blank lines before the first row are findings of their own lines.
            found = (finding for finding in findings_here if checker.hopeless or finding.source.line == number)
            yield CheckedLine(number=number, row=row_here, row_format=checker.row_format, findings=tuple(found))
            if checker.hopeless:
                return


def _read_at(file: IO[bytes], offset: int, number: int, max_line_bytes: int) -> RawLine:
    """The line that begins at an offset, as ``read_lines`` gives it; blank lines too."""
    file.seek(offset)
    line = file.readline(max_line_bytes + 2).removesuffix(b"\n").removesuffix(b"\r")
    if number == 1:
        line = line.removeprefix(UTF8_BOM)
    return RawLine(number, None if len(line) > max_line_bytes else line)
