"""``luthier models alias``, ``aliases``, ``rollback`` and ``unalias``: other names for served models.

What it does: speaks to ``/v1/luthier/aliases`` and prints what came of it. What it does not: decide anything. Called by
``cli/models.py``, which holds the group.
"""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.table import Column, Table

from luthier.cli.client import connect
from luthier.cli.printing import client_errors, printable_output
from luthier.cli.render.text import literal

if TYPE_CHECKING:
    import openai

_PATH = "/luthier/aliases"
Command = Callable[..., None]


def _server_options(command: Command) -> Command:
    command = click.option("--data-dir", type=click.Path(path_type=Path), default=None, help="The server's data directory.")(command)
    command = click.option("--api-key", default=None, help="Its key; found in the data directory by default.")(command)
    return click.option("--url", default=None, help="The server's address.")(command)


def _path_of(name: str) -> str:
    return f"{_PATH}/{quote(name, safe='')}"


def _when(moment: int | None) -> str:
    return "" if moment is None else datetime.datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@click.command()
@click.argument("name")
@click.argument("target")
@_server_options
def alias(name: str, target: str, url: str | None, api_key: str | None, data_dir: Path | None) -> None:
    """Let NAME stand for the model TARGET; a NAME that exists is moved.

    \b
    luthier models alias support@prod ft:gpt-4o-mini-2024-07-18:acme:support:dS6Na5ML
    luthier models alias gpt-4o-mini-2024-07-18 my-base
    luthier models alias ft:gpt-4o-mini-2024-07-18:acme::AbC123 ft:gpt-4o-mini-2024-07-18:luthier::dS6Na5ML
    """
    printable_output()
    with client_errors():
        shown = _put(connect(url=url, api_key=api_key, data_dir=data_dir), name, target)
    click.echo(f"{name} -> {shown['target']}")


def _put(client: "openai.OpenAI", name: str, target: str) -> dict[str, Any]:
    import openai

    try:
        moved: Any = client.post(_path_of(name), cast_to=object, body={"target": target})
    except openai.NotFoundError as error:
        if error.code != "alias_not_found":
            raise
        made: Any = client.post(_PATH, cast_to=object, body={"name": name, "target": target})
        return made
    return moved


@click.command()
@click.argument("name", required=False)
@_server_options
def aliases(name: str | None, url: str | None, api_key: str | None, data_dir: Path | None) -> None:
    """List the aliases, or the history of NAME.

    \b
    luthier models aliases
    luthier models aliases support@prod
    """
    printable_output()
    with client_errors():
        client = connect(url=url, api_key=api_key, data_dir=data_dir)
        shown: Any = client.get(_PATH if name is None else _path_of(name), cast_to=object)
    Console().print(_list(shown["data"]) if name is None else _history(shown))


def _list(data: list[dict[str, Any]]) -> Table:
    table = Table(Column("alias", overflow="fold"), Column("stands for", overflow="fold"), "set in", "since")
    for one in data:
        table.add_row(*map(literal, (one["id"], one["target"], one["set_in"], _when(one["changed_at"]))))
    return table


def _history(shown: dict[str, Any]) -> Table:
    head = f"{shown['id']} -> {shown['target']} (set in {shown['set_in']})"
    table = Table(
        "when", "what", Column("from", overflow="fold"), Column("to", overflow="fold"), "key", title=literal(head), title_justify="left"
    )
    for change in shown["history"]:
        what = change["action"].replace("_", " ")
        cells = (_when(change["changed_at"]), what, change["from"] or "", change["to"] or "", change["changed_by"])
        table.add_row(*map(literal, cells))
    return table


@click.command()
@click.argument("name")
@_server_options
def rollback(name: str, url: str | None, api_key: str | None, data_dir: Path | None) -> None:
    """Let NAME stand again for what it stood for before its last move; twice goes back two moves.

    \b
    luthier models rollback support@prod
    """
    printable_output()
    with client_errors():
        # Never sent twice: a repeated request whose first answer was lost would go back one move too far.
        client = connect(url=url, api_key=api_key, data_dir=data_dir).with_options(max_retries=0)
        shown: Any = client.post(f"{_path_of(name)}/rollback", cast_to=object)
    click.echo(f"{name} -> {shown['target']}")


@click.command()
@click.argument("name")
@_server_options
def unalias(name: str, url: str | None, api_key: str | None, data_dir: Path | None) -> None:
    """Delete the alias NAME; the model that it stands for stays.

    \b
    luthier models unalias support@prod
    """
    printable_output()
    with client_errors():
        connect(url=url, api_key=api_key, data_dir=data_dir).delete(_path_of(name), cast_to=object)
    click.echo(f"{name} is no alias any more.")


ALIAS_COMMANDS = (alias, aliases, rollback, unalias)
