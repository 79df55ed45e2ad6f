"""What the commands that make files say of their work: tables for people.

What it does not: print, or work. Called by ``cli/data_fix.py``, ``cli/data_split.py``, ``cli/data_import.py``, ``cli/data_export.py``
and ``cli/data_stored.py``.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from luthier.cli.render.text import literal

_SIDES = ("training", "validation")
_MAX_LABEL = 60
_SHOWN_LABELS = 50
_FIRST_LINES = 10

Result = Mapping[str, Any]


def fixed(result: Result, file: str) -> Iterator[RenderableType]:
    """A repair: each kind of change with its first lines."""
    if result["changes"]:
        table = _table("change", "lines", Column("first lines", overflow="fold"))
        for kind, lines in result["changes"].items():
            table.add_row(literal(kind), f"{lines['count']:,}", _first(lines))
        yield table
    broken = result["still_broken"]["count"]
    text = literal(f"{file}: {result['changed_lines']:,} of {result['lines']:,} lines changed")
    if broken:
        text.append(f"; no JSON objects still: {broken:,}", style="red")
    yield text


def split(result: Result, files: Mapping[str, str]) -> Iterator[RenderableType]:
    """A split: both sides, how rows were kept together, and each label."""
    rows = {side: result[f"{side}_rows"] for side in _SIDES}
    total = sum(rows.values())
    table = _table("side", "rows", "share", Column("file", overflow="fold"))
    for side in _SIDES:
        table.add_row(side, f"{rows[side]:,}", f"{rows[side] / total:.1%}", literal(files[side]))
    yield table
    yield literal(f"{result['groups']:,} groups, kept together by {result['grouped_by']}.")
    keyed = f" Rows of which it is known what they belong to: {result['rows_with_a_key']:,}." if result["rows_with_a_key"] else ""
    together = result["rows_that_share_a_group"]
    yield literal(f"Rows that share their group: {together:,}; the largest group has {result['largest_group']:,}.{keyed}")
    if result["labels"] is None:
        yield Text("The answers are no labels, so rows are taken as they come.")
        return
    labels = _table(Column("label", overflow="fold"), "training", "validation")
    for label, counts in list(result["labels"].items())[:_SHOWN_LABELS]:
        labels.add_row(literal(label, max_length=_MAX_LABEL), f"{counts['training']:,}", f"{counts['validation']:,}")
    yield labels
    if (rest := len(result["labels"]) - _SHOWN_LABELS) > 0:
        yield Text(f"... and {rest:,} more labels (all of them with --json)")


def imported(result: Result, file: str) -> Iterator[RenderableType]:
    """An import: rows, and rows left out."""
    left = f", {result['left_out']:,} left out" if result["left_out"] else ""
    yield literal(f"{file}: {_rows(result)}{left}")


def exported(result: Result, file: str) -> Iterator[RenderableType]:
    """An export."""
    yield literal(f"{file}: {_rows(result)} as {result['format']}")


def redacted(result: Result, file: str) -> Iterator[RenderableType]:
    """A redaction: what was replaced of each kind, and where."""
    found = {kind: counts for kind, counts in result["kinds"].items() if counts["values"]}
    if found:
        table = _table("kind", "replaced", "different", "lines", Column("first lines", overflow="fold"))
        for kind, counts in found.items():
            lines = counts["lines"]
            first = {**lines, "first": lines["first"][:_FIRST_LINES]}
            table.add_row(kind, f"{counts['values']:,}", f"{counts['different']:,}", f"{lines['count']:,}", _first(first))
        yield table
    yield literal(f"{file}: {result['changed_lines']:,} of {result['lines']:,} lines changed")


def _rows(result: Result) -> str:
    return "1 row" if result["rows"] == 1 else f"{result['rows']:,} rows"


def _table(*columns: str | Column) -> Table:
    numbers = ("lines", "rows", "share", "replaced", "different", *_SIDES)
    made = [Column(one, justify="right" if one in numbers else "left", no_wrap=True) if isinstance(one, str) else one for one in columns]
    return Table(*made, box=SIMPLE_HEAD, pad_edge=False)


def _first(lines: Mapping[str, Any]) -> str:
    first = ", ".join(f"{number:,}" for number in lines["first"])
    rest = lines["count"] - len(lines["first"])
    return first + (f" and {rest:,} more" if rest else "")
