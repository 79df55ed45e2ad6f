"""Makes an ordinary training file of rows from elsewhere.

What it does: reads a source, settles its columns from its first rows, maps and checks every row, and writes chat or preference
rows; a row that cannot be mapped is named with its place. What it does not: print, or change what a text says. Called by
``worker/prepare_data.py`` and ``worker/dataset_kinds.py``.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import orjson

from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.examples import RowFormat, SourceLine
from luthier.data.columns import chat_row, guess
from luthier.data.new_file import new_file
from luthier.data.preference_columns import preference_row
from luthier.data.source_files import Fetch, rows_of
from luthier.data.source_row import SourceRow
from luthier.data.tool_turns import CannotMap
from luthier.data.validate import first_error

SHOWN_FAULTS = 50
_LOOKED_AT = 100
_PROGRESS_ROWS = 1000


class BadRows(LuthierError):
    """Rows do not fit; nothing was written."""


@dataclass(slots=True)
class Imported:
    """What became of a source's rows."""

    num_rows: int = 0
    num_bad: int = 0
    faults: list[str] = field(default_factory=list)
    """The first bad rows: place and reason."""
    unused: Counter[str] = field(default_factory=Counter)
    """Column -> rows with a value in it that found no place."""

    are_preferences: bool | None = None
    """Whether the rows compare two answers; None before the first."""

    def refuse(self, row: SourceRow, reason: str) -> None:
        """Take down a bad row."""
        self.num_bad += 1
        if len(self.faults) < SHOWN_FAULTS:
            self.faults.append(f"{row.place}: {reason}")

    def to_dict(self) -> dict[str, Any]:
        """The import as JSON; column names are the source's own words."""
        return {"rows": self.num_rows, "left_out": self.num_bad, "faults": self.faults, "unused_columns": dict(self.unused)}


def import_rows(
    sources: list[str],
    output: Path,
    *,
    said: Mapping[str, str],
    skip_bad: bool,
    max_line_bytes: int,
    note: Callable[[str], None],
    max_bytes: int | None = None,
    fetch: Fetch | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Imported:
    """Write the rows of all sources to ``output``, in their order: chat rows, or preference rows where a chosen and a rejected answer are.

    Args:
        sources: paths, or ``hf://OWNER/NAME``.
        output: the new file.
        said: field -> column, as the user gave it.
        skip_bad: write the good rows although there are bad ones.
        max_line_bytes: the longest line.
        note: is told the mapping of each source, bad rows and unused columns, line by line.
        max_bytes: the largest new file; a small compressed table may hold very many rows.
        fetch: see ``rows_of``.
        on_progress: is given the number of rows written so far.

    Raises:
        BadRows: rows cannot be mapped and ``skip_bad`` is not set, or there is no good row; nothing was written.
        InvalidRequest: a source, a mapping or the output's name cannot be used, or the new file would be too large.
    """
    total = Imported()
    room = max_bytes
    with new_file(output) as file:
        for source in sources:
            lead = f"{source}: " if len(sources) > 1 else ""
            rows = rows_of(source, max_line_bytes=max_line_bytes, note=note, fetch=fetch)
            for line in _mapped(rows, said, total, lead, max_line_bytes=max_line_bytes, note=note):
                if room is not None and (room := room - len(line)) < 0:
                    raise InvalidRequest(f"The new file would have more than the maximum of {max_bytes:,} bytes; nothing was written.")
                file.write(line)
                if total.num_rows % _PROGRESS_ROWS == 0:
                    on_progress(total.num_rows)
        _tell(total, note)
        if total.num_bad and not skip_bad:
            raise BadRows(
                f"{total.num_bad:,} of {total.num_bad + total.num_rows:,} rows cannot be mapped; nothing was written. "
                "Mend them, map other columns, or leave them out with --skip-bad."
            )
        if not total.num_rows:
            raise BadRows("There is no row to import; nothing was written.")
    return total


def _mapped(
    rows: Iterator[SourceRow], said: Mapping[str, str], total: Imported, lead: str, *, max_line_bytes: int, note: Callable[[str], None]
) -> Iterator[bytes]:
    head: list[SourceRow] = []
    for row in rows:
        if row.value:
            head = [row, *islice(rows, _LOOKED_AT - 1)]
            break
        total.refuse(_at(lead, row), row.fault or "it has no columns.")
    if not head:
        return
    columns = dict.fromkeys(column for row in head for column in row.value or ())
    mapping = guess(columns, said)
    note(f"{lead}columns: {mapping.describe(columns)}")
    if total.are_preferences not in (None, mapping.are_preferences):
        raise InvalidRequest("One source holds preferences and another one does not. Import them into two files.")
    total.are_preferences = mapping.are_preferences
    of_row, row_format = (preference_row, RowFormat.PREFERENCE) if mapping.are_preferences else (chat_row, RowFormat.CHAT)
    for found in chain(head, rows):
        row = _at(lead, found)
        if row.value is None:
            total.refuse(row, row.fault)
            continue
        try:
            made = of_row(row.value, mapping, total.unused)
        except CannotMap as error:
            total.refuse(row, str(error))
            continue
        # The row's own place is named, so the example's number in the API's wording is taken off.
        fault = first_error(made, row_format, SourceLine("", 0), message_code="")
        if fault is not None:
            total.refuse(row, fault.message.removeprefix("Example 0, ").removeprefix("Example 0 "))
            continue
        line = orjson.dumps(made, option=orjson.OPT_APPEND_NEWLINE)
        size = len(line) - 1  # without its end
        if size > max_line_bytes:
            total.refuse(row, f"it would be a line of {size:,} bytes; the maximum is {max_line_bytes:,}.")
            continue
        total.num_rows += 1
        yield line


def _at(lead: str, row: SourceRow) -> SourceRow:
    return SourceRow(lead + row.place, row.value, row.fault) if lead else row


def _tell(total: Imported, note: Callable[[str], None]) -> None:
    for fault in total.faults:
        note(fault)
    if total.num_bad > len(total.faults):
        note(f"... and {total.num_bad - len(total.faults):,} more")
    for column, count in total.unused.items():
        note(f"not used: {column} has a value in {count:,} {'row' if count == 1 else 'rows'}")
