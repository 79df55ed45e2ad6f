"""The supervised examples of a whole file, some at a time, whatever else is wrong with it.

What it does: checks each line as a job does, passes on the examples of sound rows and counts the others. What it does not:
report faults (``check.py``), fail over them (``stage.py``), or keep anything. Called by ``worker/row_packing.py``.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from luthier.core.examples import RowFormat, SftExample, SourceLine
from luthier.data.check import LineChecker, is_error
from luthier.data.read import Progress, read_lines
from luthier.data.validate import example_of


class SoundExamples:
    """Reads a file once; ``num_left_out`` is complete after the last row."""

    def __init__(self, path: Path, *, max_line_bytes: int, file_id: str) -> None:
        self._path = path
        self._max_line_bytes = max_line_bytes
        self._file_id = file_id
        self._checker = LineChecker(file_id, path, role="training", method="supervised", max_line_bytes=max_line_bytes)
        self.num_left_out = 0
        """Lines that give no example, because a job would fail over them. Blank lines are not counted."""

    @property
    def row_format(self) -> RowFormat | None:
        """None until a row could be read."""
        return self._checker.row_format

    def chunks(self, size: int, on_progress: Callable[[int], None] = lambda _: None) -> Iterator[list[SftExample]]:
        """Lists of up to ``size`` examples in the file's order; ``on_progress`` is given the bytes read so far, about once a megabyte.

        Raises:
            OSError: the file cannot be read.
        """
        chunk: list[SftExample] = []
        for line in read_lines(self._path, max_line_bytes=self._max_line_bytes, watch=Progress(on_progress).read):
            row, findings = self._checker.take(line)
            # A blank line before a row makes the file faulty, not the row.
            if row is None or any(is_error(finding) and finding.rule != "blank_line" for finding in findings):
                self.num_left_out += 1
                if self._checker.hopeless:
                    break
                continue
            assert self._checker.row_format is not None
            chunk.append(example_of(row, self._checker.row_format, SourceLine(self._file_id, line.number)))
            if len(chunk) == size:
                yield chunk
                chunk = []
        if chunk:
            yield chunk
