"""Rows out of a Parquet file, in memory that its cells do not decide.

What it does: reads as few rows at once as fit into a budget, leaves values that repeat where they are stored once, and names a row
whose cell is longer than a line may be without making a text of it. What it does not: know what a column means (``columns.py``).
Called by ``sources.py``.
"""

import importlib
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from luthier.core.errors import InvalidRequest
from luthier.data.source_row import SourceRow

_MOST_ROWS = 32
_BATCH_BYTES = 64 << 20
"""Decoded cells in memory at once, as far as the file's own figures tell; one row may be more."""

_USUAL_RATIO = 100
"""Texts shrink to a tenth; what shrinks more is made of repetitions."""
_USUAL_TABLE_BYTES = 4 << 20
"""Writers end a table of values at one megabyte; a larger one, compressed, has large values."""


class _TooLong(ValueError):
    """A cell that no line could hold; the argument is its column."""


def parquet_rows(path: Path, max_line_bytes: int) -> Iterator[SourceRow]:
    """The rows, each with its number.

    Raises:
        InvalidRequest: pyarrow is missing, or the file cannot be read.
    """
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise InvalidRequest(
            f"{path.name} is a Parquet file, and pyarrow is missing. Install it with: pip install 'luthier[data]'"
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            repeating, size = _repeating(file.metadata), _batch_size(file.metadata)
        with parquet.ParquetFile(path, read_dictionary=repeating) as file:
            names = _class_names(file.schema_arrow.metadata or {})
            columns = file.schema_arrow.names
            for batch in file.iter_batches(batch_size=size):
                for at in range(batch.num_rows):
                    number += 1
                    cells = dict(zip(columns, (column[at] for column in batch.columns), strict=True))
                    yield _row(f"row {number}", cells, names, max_line_bytes)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these two
        if number:
            raise InvalidRequest(f"{path.name} cannot be read after row {number:,}: {error}") from error
        raise InvalidRequest(f"{path.name} is no Parquet file that can be read: {error}") from error


def _repeating(metadata: Any) -> list[str]:
    """Columns of texts that are best left as numbers of a table of values: its large ones may stand in every row."""
    found: dict[str, None] = {}
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            if column.physical_type != "BYTE_ARRAY" or not column.has_dictionary_page or "." in column.path_in_schema:
                continue
            table_bytes = column.data_page_offset - column.dictionary_page_offset
            if table_bytes > _USUAL_TABLE_BYTES or _shrinks_much(column):
                found[column.path_in_schema] = None
    return list(found)


def _shrinks_much(column: Any) -> bool:
    return column.total_uncompressed_size > _USUAL_RATIO * column.total_compressed_size


def _batch_size(metadata: Any) -> int:
    largest = 1
    for group in (metadata.row_group(index) for index in range(metadata.num_row_groups)):
        largest = max(largest, group.total_byte_size // max(1, group.num_rows))
        for column in (group.column(index) for index in range(metadata.num_columns)):
            # Far smaller than texts get: one large value that repeats, and each row may hold it.
            if _shrinks_much(column):
                largest = max(largest, column.total_uncompressed_size)
    return max(1, min(_MOST_ROWS, _BATCH_BYTES // largest))


def _row(place: str, cells: Mapping[str, Any], names: Mapping[str, list[str]], max_line_bytes: int) -> SourceRow:
    try:
        row = {column: _value(column, cell, max_line_bytes) for column, cell in cells.items()}
    except _TooLong as error:
        return SourceRow(place, None, f"its {error.args[0]!r} is longer than {max_line_bytes} bytes.")
    if _length(row) > max_line_bytes:  # a JSON library takes many times that
        return SourceRow(place, None, f"it is longer than {max_line_bytes} bytes.")
    for column, labels in names.items():
        if isinstance(value := row.get(column), int) and 0 <= value < len(labels):
            row[column] = labels[value]
    try:
        return SourceRow(place, orjson.loads(orjson.dumps(row, default=_text_of)))
    except orjson.JSONEncodeError as error:
        return SourceRow(place, None, f"it holds something that JSON does not have: {error}.")


def _value(column: str, cell: Any, max_line_bytes: int) -> Any:
    if hasattr(cell, "dictionary"):  # one of a table of values
        cell = cell.value
    if hasattr(cell, "as_buffer") and (buffer := cell.as_buffer()) is not None and buffer.size > max_line_bytes:
        raise _TooLong(column)
    return cell.as_py()


def _length(value: object) -> int:
    """Characters and bytes of all texts in a value."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        value = list(value.values())
    return sum(map(_length, value)) if isinstance(value, list) else 0


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
