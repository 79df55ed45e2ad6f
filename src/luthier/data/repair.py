"""Writes a repaired copy of a training file, and what was changed: the cures that cannot change what a row says.

What it does: byte order mark, CRLF, blank lines, trailing commas, typographic quotes around strings, names of roles, arguments
of tool calls, ``text``/``label`` columns, and prompt/completion rows among chat rows. A line that is sound stays as it is, byte
for byte; one that no cure helps stays too, and is named. What it does not: change the file itself, judge rows
(``validate.py``), or read other formats (``import_rows.py``). Called by ``worker/prepare_data.py`` and
``worker/dataset_kinds.py``.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from luthier.core.errors import InvalidRequest
from luthier.data.new_file import new_files, refuse_existing
from luthier.data.read import UTF8_BOM, Progress
from luthier.data.row_cures import cure_messages, to_chat
from luthier.data.text_cures import with_straight_quotes, without_trailing_commas

BYTE_ORDER_MARK = "byte order mark"
CRLF = "CRLF line end"
BLANK_LINE = "blank line"
TRAILING_COMMA = "trailing comma"
SMART_QUOTES = "typographic quotes"
SHOWN_LINES = 10
_TEXT_CURES = (
    ((TRAILING_COMMA,), (without_trailing_commas,)),
    ((SMART_QUOTES,), (with_straight_quotes,)),
    ((SMART_QUOTES, TRAILING_COMMA), (with_straight_quotes, without_trailing_commas)),
)


@dataclass(slots=True)
class Lines:
    """Lines of one kind: how many, and the first of them."""

    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, number: int) -> None:
        """Count one."""
        self.count += 1
        if len(self.first) < SHOWN_LINES:
            self.first.append(number)

    def to_dict(self) -> dict[str, Any]:
        """The lines as JSON."""
        return {"count": self.count, "first": self.first}


@dataclass(slots=True)
class Repair:
    """What was changed, kind by kind, and which lines are no JSON objects still."""

    changes: dict[str, Lines] = field(default_factory=dict)
    num_lines: int = 0
    num_changed: int = 0
    still_broken: Lines = field(default_factory=Lines)

    def add(self, kinds: Sequence[str], number: int) -> None:
        """Take down what was done to a line."""
        self.num_changed += bool(kinds)
        for kind in kinds:
            self.changes.setdefault(kind, Lines()).add(number)

    def to_dict(self) -> dict[str, Any]:
        """The repair as JSON."""
        return {
            "lines": self.num_lines,
            "changed_lines": self.num_changed,
            "changes": {kind: lines.to_dict() for kind, lines in self.changes.items()},
            "still_broken": self.still_broken.to_dict(),
        }


class _RepeatedKey(ValueError):
    """An object names a key twice: writing it anew would lose one of the values."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise _RepeatedKey
    return row


def cure_text(data: bytes) -> tuple[bytes, tuple[str, ...], bool]:
    """A line as JSON where a cure of its text makes it so: its bytes, what was changed, and whether it is a JSON object now."""
    if _is_object(data):
        return data, (), True
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data, (), False
    for kinds, cures in _TEXT_CURES:
        cured = text
        for cure in cures:
            cured = cure(cured)
        if cured != text and _is_object(cured.encode()):
            return cured.encode(), kinds, True
    return data, (), False


def cure_row(data: bytes, *, completions: bool) -> tuple[bytes, tuple[str, ...]]:
    """The JSON of a row with its roles, arguments and columns cured, and what was changed.

    ``completions`` turns prompt/completion rows into chat rows.
    """
    try:
        row = json.loads(data, object_pairs_hook=_once)
    except (_RepeatedKey, RecursionError):
        return data, ()
    kinds = to_chat(row, completions=completions) + cure_messages(row)
    return (json.dumps(row, ensure_ascii=False).encode(), tuple(kinds)) if kinds else (data, ())


def repair(
    path: Path,
    output: Path,
    *,
    diff: Path | None,
    max_line_bytes: int,
    completions: bool = False,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Repair:
    """Write the repaired copy of ``path`` to ``output``, and where asked a unified diff without context lines.

    Args:
        path: the file; it is only read.
        output: the copy.
        diff: where the diff goes, or None.
        max_line_bytes: a longer line is copied as it is.
        completions: make chat rows of all prompt/completion rows, not only where the file mixes both.
        on_progress: is given the number of bytes repaired so far.

    Raises:
        InvalidRequest: ``output`` or ``diff`` exists already, or both are one.
    """
    if diff is not None:
        refuse_existing(diff)
        if diff.resolve() == output.resolve():
            raise InvalidRequest("The repaired copy and the diff need two different names.")
    completions = completions or _is_mixed(path, max_line_bytes)
    report, progress = Repair(), Progress(on_progress)
    with new_files(output, *([diff] if diff is not None else [])) as (copy, *rest):
        differences = _Diff(rest[0], path.name, output.name) if rest else None
        for pieces in _lines(path, max_line_bytes):
            report.num_lines += 1
            number = report.num_lines
            for piece in pieces:
                progress.read(piece)
            if len(pieces) > 1:
                report.still_broken.add(number)
                copy.writelines(pieces)
                continue
            before = pieces[0]
            after, kinds, sound = _cure(before, completions=completions)
            report.add(kinds, number)
            if not sound:
                report.still_broken.add(number)
            copy.write(after)
            if differences is not None and before != after:
                differences.add(number, before, after)
    return report


def _cure(line: bytes, *, completions: bool) -> tuple[bytes, tuple[str, ...], bool]:
    kinds: list[str] = []
    if line.startswith(UTF8_BOM):  # of any line: files that were joined have one inside
        line = _without_mark(line)
        kinds.append(BYTE_ORDER_MARK)
    end = b"\n" if line.endswith(b"\n") else b""
    data = line.removesuffix(b"\n")
    if data.endswith(b"\r"):
        data = data.rstrip(b"\r")
        kinds.append(CRLF)
    if not data.strip():
        return b"", (*kinds, BLANK_LINE), True
    data, text_kinds, sound = cure_text(data)
    row_kinds: tuple[str, ...] = ()
    if sound:
        data, row_kinds = cure_row(data, completions=completions)
    return data + end, (*kinds, *text_kinds, *row_kinds), sound


def _without_mark(line: bytes) -> bytes:
    while line.startswith(UTF8_BOM):
        line = line.removeprefix(UTF8_BOM)
    return line


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(orjson.loads(data), dict)
    except orjson.JSONDecodeError:
        return False


def _is_mixed(path: Path, max_line_bytes: int) -> bool:
    """Whether the copy would hold both chat and prompt/completion rows, which no job takes."""
    chat = completion = False
    for pieces in _lines(path, max_line_bytes):
        data, _, sound = cure_text(_without_mark(pieces[0]) if len(pieces) == 1 else b"")
        if sound:
            keys = set(orjson.loads(data))
            chat = chat or "messages" in keys or keys == {"text", "label"}
            completion = completion or keys == {"prompt", "completion"}
        if chat and completion:
            return True
    return False


def _lines(path: Path, max_line_bytes: int) -> Iterator[list[bytes]]:
    """The lines with their ends; one beyond the limit comes in pieces."""
    with path.open("rb") as file:
        while piece := file.readline(max_line_bytes + 2):
            pieces = [piece]
            while not pieces[-1].endswith(b"\n") and (more := file.readline(max_line_bytes + 2)):
                pieces.append(more)
            yield pieces


class _Diff:
    """A unified diff of changed lines, hunk by hunk."""

    def __init__(self, file: BinaryIO, before: str, after: str) -> None:
        self._file = file
        self._removed = 0
        self._head = f"--- {before}\n+++ {after}\n".encode()

    def add(self, number: int, before: bytes, after: bytes) -> None:
        """One changed line; an empty ``after`` takes it out."""
        there = number - self._removed
        self._file.write(self._head)
        self._head = b""
        if after:
            self._file.write(f"@@ -{number} +{there} @@\n".encode() + _signed(b"-", before) + _signed(b"+", after))
        else:
            self._file.write(f"@@ -{number} +{there - 1},0 @@\n".encode() + _signed(b"-", before))
            self._removed += 1


def _signed(sign: bytes, line: bytes) -> bytes:
    return sign + line + (b"" if line.endswith(b"\n") else b"\n\\ No newline at end of file\n")
