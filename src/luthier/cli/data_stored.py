"""``luthier data`` commands on a stored file: the work is a dataset task of the server.

What it does: asks, shows a bar while it takes longer than two seconds, and gives the finished task; Ctrl-C cancels it. What it does
not: lay out results (``render/``). Called by the commands that take a file's id in place of a path.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from luthier.cli.client import get, post
from luthier.cli.data_process import progress_shown
from luthier.cli.exit_codes import ExitCode, InvalidData, JobEnded
from luthier.cli.options import Place
from luthier.cli.printing import printable_output
from luthier.cli.render.text import plain
from luthier.cli.upload import LOCAL_FILE
from luthier.cli.waiting import PATIENT_RETRIES
from luthier.core.errors import LuthierError, Unavailable

if TYPE_CHECKING:
    import openai

_WAIT_SECONDS = 2.0
_POLL_SECONDS = 0.25
_STREAM_SECONDS = 60.0
_FAULTS_OF_DATA = ("invalid_rows", "invalid_request")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that the server has."""

    id: str


class LocalOrStored(click.ParamType):
    """A file on this machine, or the id of a stored one."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | StoredFile:
        """The path, or the id where no file of that name is here."""
        if isinstance(value, StoredFile):
            return value
        if str(value).startswith("file-") and not Path(value).exists():
            return StoredFile(str(value))
        return LOCAL_FILE.convert(value, param, ctx)


FILE = LocalOrStored()


def run_task(place: Place, kind: str, **options: Any) -> dict[str, Any]:
    """Do a dataset task on the server; returns it, completed.

    Args:
        place: where the server is.
        kind: of the task.
        options: the request; what is None is left out.

    Raises:
        LuthierError: the task failed, or was cancelled.
    """
    printable_output()
    client = place.client()
    body = {name: value for name, value in options.items() if value is not None}
    task = post(client, f"/luthier/datasets/{kind}", {**body, "wait_seconds": _WAIT_SECONDS})
    task = _followed(client.with_options(max_retries=PATIENT_RETRIES), kind, task)
    for note in (task["result"] or {}).get("notes", ()):
        click.echo(plain(note), err=True)
    if task["status"] == "cancelled":
        raise JobEnded(f"{task['id']} was cancelled; no file was made.", ExitCode.CANCELLED)
    if task["status"] == "failed":
        # A forecast names the file, as the job itself would.
        of_data = task["error"]["code"] in _FAULTS_OF_DATA or task["error"]["param"] in ("training_file", "validation_file")
        raise (InvalidData if of_data else LuthierError)(task["error"]["message"].replace("'skip_bad': true", "--skip-bad"))
    return task


def _followed(client: "openai.OpenAI", kind: str, task: dict[str, Any]) -> dict[str, Any]:
    path = f"/luthier/datasets/tasks/{task['id']}"
    try:
        with progress_shown(f"{kind} on the server") as moved:
            while task["status"] in ("queued", "running"):
                moved(task["progress"])
                time.sleep(_POLL_SECONDS)
                task = get(client, path)
    except KeyboardInterrupt:
        post(client, f"{path}/cancel")
        raise
    return task


def all_findings(place: Place, task_id: str) -> Iterator[dict[str, Any]]:
    """Every finding of a task, one by one, because there may be millions.

    Raises:
        Unavailable: the server went away meanwhile.
    """
    import httpx2

    server = place.server()
    url, headers = f"{server.url}/v1/luthier/datasets/tasks/{task_id}/findings", {"authorization": f"Bearer {server.key}"}
    try:
        with httpx2.stream("GET", url, params={"format": "jsonl"}, headers=headers, timeout=_STREAM_SECONDS) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                if line:
                    yield json.loads(line)
    except httpx2.HTTPError as error:
        raise Unavailable(f"The findings of {task_id} could not be read to their end: {error}") from error


def local_only(**options: object) -> None:
    """Refuse options that mean nothing for a stored file.

    Raises:
        click.UsageError: one is given.
    """
    for name, value in options.items():
        if value:
            raise click.UsageError(f"--{name.replace('_', '-')} is for files on this machine; a stored file's results are stored files.")


def needed(option: str, value: Path | None) -> Path:
    """An option that a local file needs.

    Raises:
        click.UsageError: it is missing.
    """
    if value is None:
        raise click.UsageError(f"Missing option '{option}': where the new file goes.")
    return value
