"""Reads a JSONL file line by line in constant memory.

What it does: splits on the byte ``\\n`` alone (U+2028 and its kin stay inside their strings), takes off a byte order mark
and the ``\\r`` of CRLF, and reports a line over the cap without holding it. What it does not: parse JSON
(``parse.py``). Called by ``check.py`` and ``stage.py``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

UTF8_BOM = b"\xef\xbb\xbf"
_DRAIN_BYTES = 1 << 16
_PROGRESS_BYTES = 1 << 20


class Progress:
    """Counts bytes as they are read, and tells their number about once a megabyte."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell = tell
        self._seen = self._told = 0

    def read(self, data: bytes) -> None:
        """Count these; a ``watch`` of ``read_lines``."""
        self._seen += len(data)
        if self._seen - self._told >= _PROGRESS_BYTES:
            self._told = self._seen
            self._tell(self._seen)


@dataclass(frozen=True, slots=True)
class RawLine:
    """One line of a file."""

    number: int
    """1-based, blank lines counted."""
    data: bytes | None
    """The bytes without the line's end; None when the line is longer than the cap."""


def read_lines(path: Path, *, max_line_bytes: int, watch: Callable[[bytes], None] | None = None) -> Iterator[RawLine]:
    """Yield the lines of a file that hold more than white space.

    Args:
        path: the file.
        max_line_bytes: longest line, its end not counted; a longer one comes as ``RawLine(number, None)``.
        watch: is given every byte of the file, in order (to hash it).
    """
    number = 0
    with path.open("rb") as file:
        # Two bytes more than the cap: room for CRLF behind a line that is exactly as long as allowed.
        while piece := file.readline(max_line_bytes + 2):
            number += 1
            if watch is not None:
                watch(piece)
            if not piece.endswith(b"\n"):
                for rest in iter(lambda: file.readline(_DRAIN_BYTES), b""):
                    if watch is not None:
                        watch(rest)
                    if rest.endswith(b"\n"):
                        break
            line = piece.removesuffix(b"\n").removesuffix(b"\r")
            if number == 1:
                line = line.removeprefix(UTF8_BOM)
            if len(line) > max_line_bytes:
                yield RawLine(number, None)
            elif line.strip():
                yield RawLine(number, line)
