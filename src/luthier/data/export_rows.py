"""Writes a training file as a table or in another tool's format.

What it does: CSV (``system,prompt,completion``), Alpaca rows and ShareGPT conversations, such that importing them gives the same
rows again. A row that the format cannot hold is named with its line. What it does not: print. Called by
``worker/prepare_data.py`` and ``worker/dataset_kinds.py``.
"""

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from luthier.core.examples import LineError, SourceLine
from luthier.data.import_rows import BadRows
from luthier.data.new_file import new_file
from luthier.data.read import Progress, read_lines
from luthier.data.sharegpt_turns import CannotHold, sharegpt_row, text_of_message
from luthier.data.validate import check_row, format_of, parse_row

SHOWN_FAULTS = 50
_CSV_COLUMNS = ("system", "prompt", "completion")
_SHAREGPT_ROLES = {"system": "system", "developer": "developer", "user": "human", "assistant": "gpt"}


def export_rows(
    path: Path,
    output: Path,
    *,
    form: str,
    skip_bad: bool,
    max_line_bytes: int,
    note: Callable[[str], None],
    on_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write the rows of ``path`` to ``output`` and return how many there are.

    Args:
        path: a file of chat or prompt/completion rows.
        output: the new file.
        form: ``csv``, ``alpaca`` or ``sharegpt``.
        skip_bad: write the other rows although some cannot be held.
        max_line_bytes: the longest line.
        note: is told each of the first 50 rows that cannot be held.
        on_progress: is given the number of bytes read so far.

    Raises:
        BadRows: rows cannot be read or held and ``skip_bad`` is not set, or no row is left; nothing was written.
        InvalidRequest: the output's name cannot be used.
    """
    write, before, between, after = _FORMS[form]
    good = bad = 0
    with new_file(output) as file:
        file.write(before)
        for line in read_lines(path, max_line_bytes=max_line_bytes, watch=Progress(on_progress).read):
            try:
                row = _row(line.data, line.number, max_line_bytes)
                made = write(row)
            except CannotHold as error:
                bad += 1
                if bad <= SHOWN_FAULTS:
                    note(f"line {line.number} {error}")
                continue
            file.write((between if good else b"") + made)
            good += 1
        file.write(after)
        if bad > SHOWN_FAULTS:
            note(f"... and {bad - SHOWN_FAULTS:,} more")
        if bad and not skip_bad:
            raise BadRows(
                f"{bad:,} of {good + bad:,} rows cannot be written as {form}; nothing was written. Leave them out with --skip-bad."
            )
        if not good:
            raise BadRows("There is no row to export; nothing was written.")
    return good


def _row(data: bytes | None, number: int, max_line_bytes: int) -> dict[str, Any]:
    if data is None:
        raise CannotHold(f"is longer than {max_line_bytes} bytes.")
    row = parse_row(data, SourceLine("", number))
    outcome = row if isinstance(row, LineError) else check_row(row, format_of(row), SourceLine("", number), message_code="")
    if isinstance(outcome, LineError):
        raise CannotHold(outcome.message.removeprefix(f"Example {number}, ").removeprefix(f"Example {number} "))
    assert isinstance(row, dict)
    if "messages" not in row:
        return {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]}
    return row


def _texts(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Role and text of every message of a row that has nothing else."""
    if extra := [key for key in row if key != "messages"]:
        raise CannotHold(f"has {extra[0]!r}, for which the format has no place.")
    turns = [(message["role"], text_of_message(message)) for message in row["messages"]]
    return [(role, text or "") for role, text in turns]


def _single(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """System message (or nothing), prompt and completion."""
    turns = _texts(row)
    roles = [role for role, _ in turns]
    if roles not in (["user", "assistant"], ["system", "user", "assistant"]):
        raise CannotHold(f"is not one question and one answer (its roles: {', '.join(roles[:10])}).")
    if not all(text for _, text in turns):
        raise CannotHold("has an empty message, which would be a missing one.")
    system = turns[0][1] if len(turns) == 3 else ""
    return system, turns[-2][1], turns[-1][1]


def _csv_line(cells: tuple[str, ...]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)  # with CRLF for its end, it puts quotes around cells with either of the two
    return text.getvalue().removesuffix("\r\n").encode() + b"\n"


def _csv(row: Mapping[str, Any]) -> bytes:
    return _csv_line(_single(row))


def _alpaca(row: Mapping[str, Any]) -> bytes:
    system, prompt, completion = _single(row)
    made = {"instruction": prompt, "input": "", "output": completion}
    return orjson.dumps({**made, "system": system} if system else made)


def _sharegpt(row: Mapping[str, Any]) -> bytes:
    return orjson.dumps(sharegpt_row(row))


# Writer of a row, and what stands before the rows, between and after them.
_FORMS: dict[str, tuple[Callable[[Mapping[str, Any]], bytes], bytes, bytes, bytes]] = {
    "csv": (_csv, _csv_line(_CSV_COLUMNS), b"", b""),
    "alpaca": (_alpaca, b"[\n", b",\n", b"\n]\n"),
    "sharegpt": (_sharegpt, b"[\n", b",\n", b"\n]\n"),
}
FORMS = tuple(_FORMS)
"""The formats that can be written."""
