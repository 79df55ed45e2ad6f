"""Has the workshop prepare a local file, and listens to it.

What it does: notes to standard error, a bar while it takes longer than two seconds, the result to the command; an error becomes one
of ours. What it does not: know what a command does. Called by ``data_import.py``, ``data_export.py``, ``data_fix.py``,
``data_redact.py`` and ``data_split.py``; the bar by ``data_stored.py`` too.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from luthier.cli.exit_codes import ExitCode, InvalidData
from luthier.cli.printing import printable_output
from luthier.cli.render.text import plain
from luthier.cli.settings_file import read_settings
from luthier.cli.workshop import workshop
from luthier.core.errors import InvalidRequest, LuthierError, NotFound, Unavailable

_QUIET_SECONDS = 2.0
_ERRORS: Mapping[int, type[LuthierError]] = {
    ExitCode.USAGE: InvalidRequest,
    ExitCode.NOT_FOUND: NotFound,
    ExitCode.DATA_INVALID: InvalidData,
    ExitCode.UNREACHABLE: Unavailable,
}
Show = Callable[[dict[str, Any]], None]


def prepare(command: str, *arguments: str, title: str, show: Show) -> None:
    """Run a command of ``worker/prepare_data.py``, and show its result.

    Args:
        command: its name.
        arguments: those of the process.
        title: beside the bar.
        show: prints a result.

    Raises:
        LuthierError: what the process says it ended with; a result that came before is shown.
    """
    printable_output()
    error: LuthierError | None = None
    ended = False
    with workshop("prepare_data", command, *arguments, environ=read_settings(data_dir=None).environment()) as (process, output):
        with progress_shown(title) as moved:
            for told in output:
                ((kind, value),) = json.loads(told).items()
                if kind == "progress":
                    moved(value)
                elif kind == "note":
                    click.echo(plain(value), err=True)
                elif kind == "result":
                    ended = True
                    show(value)
                else:
                    ended = True
                    error = _ERRORS.get(value["exit_code"], LuthierError)(value["message"])
        code = process.wait()
    if error is not None:
        raise error
    if not ended and code < 0:
        raise LuthierError(f"luthier data {command} was killed (signal {-code}) before it was done; most often memory is short.")
    if not ended:
        raise LuthierError(f"luthier data {command} ended with {code} and no result; what it said stands above.")


@contextmanager
def progress_shown(title: str, *, clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[Mapping[str, Any] | None], None]]:
    """Yields a function that takes ``{"done", "total", "unit"}``; the bar appears after two seconds, on a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figure]}"), TimeElapsedColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task(plain(title).replace("[", r"\["), total=None, figure="")
    began = clock()

    def moved(told: Mapping[str, Any] | None) -> None:
        if told is not None:
            progress.update(task, completed=told["done"], total=told["total"], figure=_figure(told))
        if clock() - began > _QUIET_SECONDS:
            progress.start()

    try:
        yield moved
    finally:
        progress.stop()


def _figure(told: Mapping[str, Any]) -> str:
    from luthier.cli.render.text import size

    if told["unit"] == "bytes":
        return size(told["done"]) + (f" of {size(told['total'])}" if told["total"] else "")
    return f"{told['done']:,} {told['unit']}"
