"""``luthier data tasks``: the server's dataset tasks: all of them, one, or the end of one.

What it does: speaks HTTP and prints. What it does not: make tasks (the other ``luthier data`` commands do, through
``data_stored.py``), or show their reports.
"""

from typing import Any
from urllib.parse import quote

import click

from luthier.cli.client import get, post
from luthier.cli.options import Form, Place, with_form, with_place
from luthier.cli.output import Field, Item, show_object, show_page
from luthier.cli.render.text import seconds, size, when
from luthier.core.dataset_tasks import DatasetKind
from luthier.core.errors import LuthierError

_PATH = "/luthier/datasets/tasks"


def _source(task: Item) -> str:
    """What the task reads."""
    options: dict[str, Any] = task["options"]
    named = options.get("file_id") or options.get("training_file") or options.get("source")
    return str(named) if named else "stored completions"


def _status(task: Item) -> str:
    told = task["progress"]
    if task["status"] != "running" or told is None:
        return str(task["status"])
    if told["total"]:
        return f"running, {100 * told['done'] / told['total']:.0f} %"
    return f"running, {size(told['done']) if told['unit'] == 'bytes' else str(told['done']) + ' ' + told['unit']}"


def _took(task: Item) -> str:
    if not task["finished_at"]:
        return ""
    # The API tells whole seconds.
    took = task["finished_at"] - task["created_at"]
    return seconds(took) if took > 0 else "under 1 s"


def _findings(task: Item) -> str:
    return f"{task['num_findings']:,}" if task["num_findings"] else ""


def _options(task: Item) -> str:
    return ", ".join(f"{name}={value}" for name, value in task["options"].items())


def _files(task: Item) -> str:
    files: dict[str, str] = (task["result"] or {}).get("files") or {}
    return ", ".join(f"{name} {file}" for name, file in files.items())


COLUMNS = (
    Field("id", lambda t: t["id"], whole=True),
    Field("kind", lambda t: t["kind"], whole=True),
    Field("file", _source),
    Field("status", _status, whole=True),
    Field("created", lambda t: when(t["created_at"]), whole=True),
    Field("took", _took, whole=True),
)
LINES = (
    Field("task", lambda t: t["id"]),
    Field("kind", lambda t: t["kind"]),
    Field("file", _source),
    Field("status", _status),
    Field("request", _options),
    Field("findings", _findings),
    Field("made", _files),
    Field("created", lambda t: when(t["created_at"])),
    Field("took", _took),
    Field("error", lambda t: (t["error"] or {}).get("message") or ""),
)


@click.command(epilog="Example: luthier data tasks --kind check")
@click.argument("task_id", required=False)
@click.option("--cancel", is_flag=True, help="End the task TASK_ID at once; no file is made.")
@click.option("--kind", type=click.Choice([kind.value for kind in DatasetKind]), default=None, help="List tasks of this kind alone.")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="How many to list at most.")
@click.option("--after", default=None, help="Go on after this id.")
@with_form
@with_place
def tasks(task_id: str | None, cancel: bool, kind: str | None, limit: int, after: str | None, place: Place, form: Form) -> None:
    """List the work that the server does and has done on stored files, newest first; or show the task TASK_ID.

    A task is kept for a week after its end, unless the server's settings say otherwise.
    """
    if task_id is None:
        if cancel:
            raise click.UsageError("--cancel needs the id of a task. See: luthier data tasks")
        page = get(place.client(), _PATH, kind=kind, limit=limit, after=after)
        more = "luthier data tasks" + (f" --kind {kind}" if kind else "")
        show_page(page, COLUMNS, form, more=more)
        return
    if kind or after:
        raise click.UsageError("--kind and --after are for the list, TASK_ID is for one task.")
    path = f"{_PATH}/{quote(task_id, safe='')}"
    show_object(_cancelled(place, path) if cancel else get(place.client(), path), LINES, form)


def _cancelled(place: Place, path: str) -> dict[str, Any]:
    import openai

    try:
        return post(place.client(), f"{path}/cancel")
    except openai.BadRequestError as error:
        body = error.body if isinstance(error.body, dict) else {}
        raise LuthierError(f"{body.get('message') or error.message} See: luthier data tasks") from error
