"""The examples of a checked file, read again when they are asked for: a file of gigabytes never lies in memory as objects.

What it does: remembers where each row begins. What it does not: check (``stage.py`` did, in the pass that found the rows). Built by
``stage.py``.
"""

import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, overload

import orjson

from luthier.core.examples import RlExample, RowFormat, SourceLine, TunableExample
from luthier.data.read import UTF8_BOM
from luthier.data.validate import any_example_of


class RowPlaces:
    """Where rows stand: 24 bytes each."""

    def __init__(self) -> None:
        self.starts = array("q")
        self.sizes = array("q")
        self.lines = array("q")

    def add(self, start: int, size: int, line: int) -> None:
        """Note one row: its first byte, its bytes with the line's end, its line number."""
        self.starts.append(start)
        self.sizes.append(size)
        self.lines.append(line)

    def part(self, chosen: slice) -> "RowPlaces":
        """Some of them."""
        part = RowPlaces()
        part.starts, part.sizes, part.lines = self.starts[chosen], self.sizes[chosen], self.lines[chosen]
        return part

    def clear(self) -> None:
        """Forget all."""
        for column in (self.starts, self.sizes, self.lines):
            del column[:]


class FileExamples(Sequence[TunableExample]):
    """Examples of one file, in its order. The file stays open: it can be deleted while a job uses it.

    A slice is one again. Pickled it is places, not text: another process opens the file for itself.
    """

    def __init__(self, file_id: str, path: Path, row_format: RowFormat, places: RowPlaces, file: BinaryIO | None = None) -> None:
        """``file``: opened already."""
        self._file_id = file_id
        self._path = path
        self._row_format = row_format
        self._places = places
        self._file = path.open("rb") if file is None else file

    def __reduce__(self) -> tuple[Any, ...]:
        return FileExamples, (self._file_id, self._path, self._row_format, self._places)

    def __len__(self) -> int:
        return len(self._places.lines)

    @overload
    def __getitem__(self, index: int) -> TunableExample: ...
    @overload
    def __getitem__(self, index: slice) -> "FileExamples": ...
    def __getitem__(self, index: int | slice) -> "TunableExample | FileExamples":
        if isinstance(index, slice):
            return FileExamples(self._file_id, self._path, self._row_format, self._places.part(index), self._file)
        places = self._places
        data = os.pread(self._file.fileno(), places.sizes[index], places.starts[index])
        row = orjson.loads(data.removeprefix(UTF8_BOM) if places.starts[index] == 0 else data)
        example = any_example_of(row, self._row_format, SourceLine(self._file_id, places.lines[index]))
        assert not isinstance(example, RlExample)
        return example

    def __iter__(self) -> Iterator[TunableExample]:
        for index in range(len(self)):
            yield self[index]
