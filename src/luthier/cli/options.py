"""Options that several commands share: where the server is, how to print, ``k=v`` pairs, and what a value may look like.

What it does not: look anything up (``cli/client.py``) or print (``cli/output.py``). Called by the commands.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from luthier.cli.client import Server, client_of, find_server

if TYPE_CHECKING:
    import openai

Command = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Place:
    """The server's address and key as far as options name them."""

    url: str | None
    api_key: str | None
    data_dir: Path | None

    def server(self) -> Server:
        """The server. Raises as ``find_server`` does."""
        return find_server(url=self.url, api_key=self.api_key, data_dir=self.data_dir)

    def client(self) -> "openai.OpenAI":
        """The official client for it. Raises as ``find_server`` does."""
        return client_of(self.server())


@dataclass(frozen=True, slots=True)
class Form:
    """How the answer is printed: tables for people unless one of the two is asked for."""

    as_json: bool
    quiet: bool


def with_place(command: Command) -> Command:
    """Add ``--url``, ``--api-key`` and ``--data-dir``; the command gets them as ``place``."""

    @click.option("--url", default=None, help="The server's address (default: LUTHIER_URL, OPENAI_BASE_URL, the data directory's).")
    @click.option("--api-key", default=None, help="Its key (default: LUTHIER_API_KEY, OPENAI_API_KEY, the data directory's).")
    @click.option("--data-dir", type=click.Path(path_type=Path), default=None, help="The server's data directory (default ./luthier-data).")
    @wraps(command)
    def run(*args: Any, url: str | None, api_key: str | None, data_dir: Path | None, **rest: Any) -> Any:
        return command(*args, place=Place(url, api_key, data_dir), **rest)

    return run


def with_form(command: Command) -> Command:
    """Add ``--json`` and ``--quiet``; the command gets them as ``form``."""

    @click.option("--json", "as_json", is_flag=True, help="Print the API's own objects.")
    @click.option("-q", "--quiet", is_flag=True, help="Print ids only, one a line.")
    @wraps(command)
    def run(*args: Any, as_json: bool, quiet: bool, **rest: Any) -> Any:
        if as_json and quiet:
            raise click.UsageError("--json and --quiet exclude each other.")
        return command(*args, form=Form(as_json, quiet), **rest)

    return run


def pairs(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """``k=v`` options as a dictionary; a click callback.

    Raises:
        click.BadParameter: an entry without ``=``, without a name, or with a name that came before.
    """
    found: dict[str, str] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r} is not of the form name=value.")
        if name in found:
            raise click.BadParameter(f"{name!r} is given twice.")
        found[name] = text
    return found


def training_options(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """``k=v`` options as a dictionary of JSON values: numbers, ``true``, lists; what is no JSON is a word. A click callback.

    A comma makes a list of words (``targets=q_proj,v_proj``). The server knows names and bounds.

    Raises:
        click.BadParameter: as ``pairs`` does.
    """
    return {name: _json_or_word(text) for name, text in pairs(context, parameter, values).items()}


def _json_or_word(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.split(",") if "," in text else text


class AutoOr(click.ParamType):
    """A number, or the word "auto"."""

    def __init__(self, number: type[int] | type[float]) -> None:
        self._number = number
        self.name = f"auto|{'number' if number is float else 'integer'}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number or "auto"."""
        if value == "auto" or isinstance(value, int | float):
            return value
        try:
            return self._number(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor 'auto'.", param, ctx)


def refuse_beta(method: str | None, beta: float | str | None) -> None:
    """Raises click.UsageError where ``--beta`` was given for a method that has none."""
    if beta is not None and method != "dpo":
        raise click.UsageError("--beta belongs to --method dpo.")


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class FileLifetime(click.ParamType):
    """How long a file is kept, as whole seconds: a number of them, or one with a unit (``90m``, ``12h``, ``30d``)."""

    name = "seconds|30d"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The seconds."""
        match = re.fullmatch(r"(\d{1,9})([smhd]?)", str(value).strip(), re.ASCII)
        if match is None:
            self.fail(f"{value!r} is neither a number of seconds nor a span such as 12h or 30d.", param, ctx)
        seconds = int(match[1]) * _UNITS[match[2]]
        if not 3600 <= seconds <= 30 * 86400:
            self.fail(f"{value!r} is not between 1 hour and 30 days.", param, ctx)
        return seconds
