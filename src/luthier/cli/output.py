"""Answers on standard output: a table for people, the API's objects as JSON, or ids.

What it does: prints what was asked for and nothing else; notes go to standard error. What it does not: fetch. Called by
the commands and by ``cli/waiting.py``.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Column, Table

from luthier.cli.options import Form
from luthier.cli.printing import printable_output
from luthier.cli.render.text import literal

Item = Mapping[str, Any]
# A pipe has no width: wide enough that no id is broken.
_PIPE_WIDTH = 200


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a table, or a line of one object's description."""

    title: str
    text: Callable[[Item], str]
    whole: bool = False
    """True for ids and names that must stay on one line, to be copied."""


def show_json(plain: object) -> None:
    """The object as the API sent it."""
    printable_output()
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    click.echo(json.dumps(plain, indent=2, ensure_ascii=not unicode))


def show_page(page: Mapping[str, Any], fields: Sequence[Field], form: Form, *, more: str, oldest_first: bool = False) -> None:
    """One page of a list; ``more`` is the command that shows the next one, without the id."""
    items: list[dict[str, Any]] = page["data"]
    if form.as_json:
        show_json(page)
        return
    if form.quiet:
        for item in items:
            click.echo(item["id"])
    elif items:
        _table(list(reversed(items)) if oldest_first else items, fields)
    else:
        click.echo("Nothing there yet.", err=True)
    if page.get("has_more") and items:
        click.echo(f"More: {more} --after {items[-1]['id']}", err=True)


def show_object(item: Item, fields: Sequence[Field], form: Form) -> None:
    """One object."""
    if form.as_json:
        show_json(item)
    elif form.quiet:
        click.echo(item["id"])
    else:
        grid = Table(Column(style="dim"), Column(overflow="fold"), box=None, show_header=False, pad_edge=False)
        for field in fields:
            text = field.text(item)
            if text:
                grid.add_row(field.title, literal(text))
        _console().print(grid)


def show_rows(items: Sequence[Item], fields: Sequence[Field], form: Form) -> None:
    """Rows that belong to an object and stand below it, for people; its JSON holds them."""
    if items and not form.as_json and not form.quiet:
        _table(items, fields)


def show_parts(parts: Iterable[RenderableType]) -> None:
    """The parts of a page, from top to bottom; lines end where their text does."""
    console = _console()
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _table(items: Sequence[Item], fields: Sequence[Field]) -> None:
    columns = [Column(field.title, overflow="fold", no_wrap=field.whole) for field in fields]
    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for item in items:
        table.add_row(*(literal(field.text(item)) for field in fields))
    _console().print(table)


def _console() -> Console:
    printable_output()
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPE_WIDTH)
    return console
