"""The shallow check of an upload: every line of a JSONL file is a JSON dictionary.

What it does: takes the bytes piece by piece in flat memory, splits on the byte ``\\n`` only (``str.splitlines`` would also
split on U+2028 and friends inside strings), and keeps the first fault in OpenAI's wording. What it does not: look inside
the dictionaries (``data/validate.py``), choose JSON parsers (they are passed in) or raise. Called by ``api/line_check.py``.
"""

from collections.abc import Callable

_BOM = b"\xef\xbb\xbf"
_HINT_CHARACTERS = 20
_BLANK = b" \t\r"


class JsonlCheck:
    """Feed it a file's bytes, then read ``fault``.

    Args:
        loads: the parser that decides; a ``ValueError`` refuses the line.
        max_line_bytes: longest line.
        surely: a faster judgement of lines that start with a brace: True only where ``loads`` would make a dictionary; it
            decides all others.
    """

    def __init__(
        self,
        loads: Callable[[bytes], object],
        *,
        max_line_bytes: int,
        surely: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._loads = loads
        self._surely = surely or self._is_dictionary
        self._max_line_bytes = max_line_bytes
        self._rest = bytearray()
        self._line = 0
        self._blank_line: int | None = None
        self.fault: str | None = None
        """The first fault as a sentence for the caller, or None so far."""

    def feed(self, data: bytes) -> None:
        """Check the lines that ``data`` completes. After the first fault nothing more is read or kept."""
        if self.fault is not None:
            return
        first, *lines = data.split(b"\n")
        self._rest += first
        if not lines:
            if len(self._rest) > self._max_line_bytes:
                self._line += 1
                self._refuse_length()
            return
        first, last = bytes(self._rest), lines.pop()
        self._rest.clear()
        for line in (first, *lines):
            self._take(line)
            if self.fault is not None:
                return
        self._rest += last
        if len(last) > self._max_line_bytes:
            self._line += 1
            self._refuse_length()

    def finish(self) -> str | None:
        """Check a last line without a line end; returns ``fault``."""
        if self.fault is None and self._rest:
            self._take(bytes(self._rest))
        return self.fault

    def _take(self, line: bytes) -> None:
        self._line += 1
        # Nearly all lines: these comparisons spare them the rest.
        if line.startswith(b"{") and self._blank_line is None and len(line) <= self._max_line_bytes and self._surely(line):
            return
        if self._line == 1:
            line = line.removeprefix(_BOM)
        if len(line) > self._max_line_bytes:
            self._refuse_length()
        elif not line.strip(_BLANK):
            # Blank lines may end a file; a line after one makes it a fault in the middle.
            self._blank_line = self._blank_line or self._line
        elif self._blank_line is not None:
            self._refuse(self._blank_line, b"")
        elif not self._is_dictionary(line):
            self._refuse(self._line, line)

    def _is_dictionary(self, line: bytes) -> bool:
        try:
            return isinstance(self._loads(line), dict)
        except ValueError:
            return False

    def _refuse(self, number: int, line: bytes) -> None:
        start = line[: _HINT_CHARACTERS * 4].decode("utf-8", "replace")[:_HINT_CHARACTERS]
        self._rest.clear()
        self.fault = (
            "Expected file to have JSONL format, where every line is a JSON dictionary. "
            f'Line {number} is not a dictionary (HINT: line starts with: "{start}...").'
        )

    def _refuse_length(self) -> None:
        self._rest.clear()
        self.fault = f"Line {self._line} is longer than the maximum of {self._max_line_bytes} bytes."
