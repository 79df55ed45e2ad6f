"""Rows out of files of many kinds, one by one, each with the place that a person finds it at.

What it does: CSV, TSV, JSON lines, a JSON array, Parquet. Line formats and Parquet are read in flat memory, a JSON array as a
whole (``json_rows.py``, ``parquet_rows.py``). What it does not: choose files (``source_files.py``) or know what a column means
(``columns.py``). Called by ``import_rows.py``.
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from luthier.core.archives import HEAD_BYTES, archive_of
from luthier.core.errors import InvalidRequest
from luthier.core.examples import LineError, SourceLine
from luthier.data.json_rows import array_inside, array_rows
from luthier.data.parquet_rows import parquet_rows
from luthier.data.read import UTF8_BOM, read_lines
from luthier.data.source_row import SourceRow
from luthier.data.validate import parse_row

_MESSAGES = frozenset(("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "chosen", "input"))
"""Lists of objects that are one row's talk, not rows."""
_MEMORY = "reading it needs more memory than an import may take"


def read_rows(path: Path, *, max_line_bytes: int) -> Iterator[SourceRow]:
    """The rows of one file, whose name's ending says what it is.

    Raises:
        InvalidRequest: the ending is unknown, the file is compressed, or a library for it is missing.
    """
    reader = READERS.get(path.suffix.lower())
    with path.open("rb") as file:
        archive = archive_of(file.read(HEAD_BYTES))
    if archive is not None and reader is not parquet_rows:
        raise InvalidRequest(f"{path.name} {archive.refusal}")
    if reader is None:
        known = ", ".join(READERS)
        raise InvalidRequest(f"{path.name} has no ending that tells what it is. Known are {known}, a folder, and hf://OWNER/NAME.")
    return _bounded(reader, path, max_line_bytes)


def _bounded(reader: "Reader", path: Path, max_line_bytes: int) -> Iterator[SourceRow]:
    try:
        yield from reader(path, max_line_bytes)
    except MemoryError as error:  # the process that imports is bounded: a file of kilobytes can hold cells of gigabytes
        if reader is _json:
            raise InvalidRequest(f"{path.name}: {_MEMORY}. Make JSON lines of it: jq -c '.[]' {path.name} > NEW.jsonl") from error
        raise InvalidRequest(f"{path.name}: {_MEMORY}: a cell or a page of it is too large. Write it with shorter cells.") from error


def _line(number: int) -> str:
    return f"line {number}"


def _json_lines(path: Path, max_line_bytes: int) -> Iterator[SourceRow]:
    for line in read_lines(path, max_line_bytes=max_line_bytes):
        place = _line(line.number)
        if line.data is None:
            yield SourceRow(place, None, f"it is longer than {max_line_bytes} bytes.")
            continue
        row = parse_row(line.data, SourceLine("", line.number))
        if isinstance(row, LineError):
            yield SourceRow(place, None, row.message.removeprefix(f"Example {line.number} "))
        else:
            yield SourceRow(place, row)


def _json(path: Path, max_line_bytes: int) -> Iterator[SourceRow]:
    """An array of objects, or an object around one; a ``.json`` file that holds JSON lines is read as such."""
    with path.open("rb") as file:
        first = file.read(4096).removeprefix(UTF8_BOM).lstrip()[:1]
    if first != b"[" and (first != b"{" or _is_lines(path, max_line_bytes)):
        yield from _json_lines(path, max_line_bytes)
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        yield SourceRow(f"byte {error.start + 1}", None, "it is not UTF-8.")
        return
    yield from array_rows(text, 0 if first == b"[" else array_inside(text, path.name))


def _is_lines(path: Path, max_line_bytes: int) -> bool:
    """Whether a file that begins with a brace is JSON lines: its first line is an object, and more than one around a list of rows."""
    lines = (line for line in read_lines(path, max_line_bytes=max_line_bytes) if line.data is None or line.data.strip())
    first = next(lines, None)
    if first is None or first.data is None:
        return False
    row = parse_row(first.data, SourceLine("", 1))
    if isinstance(row, LineError):
        return False
    around = any(isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value) for value in row.values())
    return not around or next(lines, None) is not None or not _MESSAGES.isdisjoint(row)


def _table(usual: str) -> Callable[[Path, int], Iterator[SourceRow]]:
    def read(path: Path, max_line_bytes: int) -> Iterator[SourceRow]:
        csv.field_size_limit(max_line_bytes)
        delimiter = _delimiter(path, usual, max_line_bytes)
        with path.open("r", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv.reader(file, delimiter=delimiter)
            header: list[str] | None = None
            start = 1
            while True:
                try:
                    cells = next(rows, None)
                except csv.Error as error:
                    yield SourceRow(_line(start), None, f"it cannot be read: {error}; nothing after it was read.")
                    return
                if cells is None:
                    return
                place, start = _line(start), rows.line_num + 1
                if not cells:
                    continue
                if header is None:
                    header = _header(path, cells)
                else:
                    yield _cells(place, header, cells, last_line=rows.line_num)

    return read


def _delimiter(path: Path, usual: str, max_line_bytes: int) -> str:
    """The usual one, or a semicolon: where the comma is in numbers, spreadsheets write that."""
    with path.open("rb") as file:
        first = file.readline(max_line_bytes)
    return ";" if usual.encode() not in first and b";" in first else usual


def _header(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{path.name} is not UTF-8. Save it as UTF-8 (spreadsheets call it 'CSV UTF-8').") from error
    if len(set(names)) != len(names) or not all(names):
        raise InvalidRequest(f"The first line of {path.name} must name every column, each once.")
    return names


def _cells(place: str, header: list[str], cells: list[str], *, last_line: int) -> SourceRow:
    if len(cells) != len(header):
        count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
        # A quote without its partner takes in all that follows, to the next quote or to the file's end.
        far = f" It goes on to line {last_line}: a quote in it is perhaps not closed." if _line(last_line) != place else ""
        return SourceRow(place, None, f"it has {count}, and there are {len(header)} columns.{far}")
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return SourceRow(place, None, "it is not UTF-8.")
    return SourceRow(place, dict(zip(header, cells, strict=True)))


Reader = Callable[[Path, int], Iterator[SourceRow]]
READERS: dict[str, Reader] = {
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".parquet": parquet_rows,
}
"""Ending of a file's name -> its reader."""
