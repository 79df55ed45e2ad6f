"""Rows out of files of many kinds, one by one, each with the place that a person finds it at.

What it does: CSV, TSV, JSON lines, a JSON array, Parquet. Line formats and Parquet are read in flat memory, a JSON array as a
whole. What it does not: choose files (``source_files.py``) or know what a column means (``columns.py``). Called by
``import_rows.py``.
"""

import csv
import importlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from luthier.core.archives import HEAD_BYTES, archive_of
from luthier.core.errors import InvalidRequest
from luthier.core.examples import LineError, SourceLine
from luthier.data.read import UTF8_BOM, read_lines
from luthier.data.validate import parse_row

_PARQUET_BATCH = 32
"""Rows in memory at once. A table of some kilobytes can hold cells of many megabytes, a value that repeats being stored once."""
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row of a source, or what is wrong at its place."""

    place: str
    """Such as ``line 17`` or ``reviews.csv, line 17``."""
    value: dict[str, Any] | None
    fault: str = ""


def read_rows(path: Path, *, max_line_bytes: int) -> Iterator[SourceRow]:
    """The rows of one file, whose name's ending says what it is.

    Raises:
        InvalidRequest: the ending is unknown, the file is compressed, or a library for it is missing.
    """
    reader = READERS.get(path.suffix.lower())
    with path.open("rb") as file:
        archive = archive_of(file.read(HEAD_BYTES))
    if archive is not None and reader is not _parquet:
        raise InvalidRequest(f"{path.name} is compressed or packed ({archive.name}), and nothing is unpacked here. First: {archive.cure}")
    if reader is None:
        known = ", ".join(READERS)
        raise InvalidRequest(f"{path.name} has no ending that tells what it is. Known are {known}, a folder, and hf://OWNER/NAME.")
    return reader(path, max_line_bytes)


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
    """An array of objects; a ``.json`` file that holds JSON lines is read as such."""
    with path.open("rb") as file:
        first = file.read(4096).removeprefix(UTF8_BOM).lstrip()[:1]
    if first != b"[":
        yield from _json_lines(path, max_line_bytes)
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        yield SourceRow(f"byte {error.start + 1}", None, "it is not UTF-8.")
        return
    yield from _array(text)


def _array(text: str) -> Iterator[SourceRow]:
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    number, counted, at = 1, 0, text.index("[") + 1
    while True:
        at = _skip_space(text, at)
        number += text.count("\n", counted, at)
        counted = at
        if text.startswith("]", at):
            break
        try:
            value, at = decoder.raw_decode(text, at)
            orjson.dumps(value)  # half characters and numbers beyond 64 bits are refused here
        except (ValueError, RecursionError, orjson.JSONEncodeError) as error:
            yield SourceRow(_line(number), None, f"it is not valid JSON: {error}; nothing after it was read.")
            return
        is_object = isinstance(value, dict)
        yield SourceRow(_line(number), value if is_object else None, "" if is_object else "it is not a JSON object.")
        at = _skip_space(text, at)
        if text.startswith(",", at):
            at += 1
        elif not text.startswith("]", at):
            yield SourceRow(_line(number), None, "after it, a comma or the end of the array is missing; nothing after it was read.")
            return
    if text[at + 1 :].strip():
        yield SourceRow(_line(number), None, "something follows the end of the array, and was not read.")


def _skip_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")


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


def _parquet(path: Path, max_line_bytes: int) -> Iterator[SourceRow]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise InvalidRequest(
            f"{path.name} is a Parquet file, and pyarrow is missing. Install it with: pip install 'luthier[data]'"
        ) from error
    try:
        file = parquet.ParquetFile(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these two
        raise InvalidRequest(f"{path.name} is no Parquet file that can be read: {error}") from error
    with file:
        names = _class_names(file.schema_arrow.metadata or {})
        number = 0
        for batch in file.iter_batches(batch_size=_PARQUET_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield _parquet_row(f"row {number}", row, names)


def _parquet_row(place: str, row: dict[str, Any], names: dict[str, list[str]]) -> SourceRow:
    for column, labels in names.items():
        if isinstance(value := row.get(column), int) and 0 <= value < len(labels):
            row[column] = labels[value]
    try:
        return SourceRow(place, orjson.loads(orjson.dumps(row, default=_text_of)))
    except orjson.JSONEncodeError as error:
        return SourceRow(place, None, f"it holds something that JSON does not have: {error}.")


def _text_of(value: object) -> str | None:
    """What JSON has no form for: bytes as their text, those of a picture, say, as nothing; a decimal number as its digits."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"a {type(value).__name__}")


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Column -> names of its numbered labels, as Hugging Face's data sets write them into the file."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    except (ValueError, AttributeError):
        return {}
    return {name: kind["names"] for name, kind in features.items() if isinstance(kind, dict) and kind.get("_type") == "ClassLabel"}


READERS: dict[str, Callable[[Path, int], Iterator[SourceRow]]] = {
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".parquet": _parquet,
}
"""Ending of a file's name -> its reader."""
