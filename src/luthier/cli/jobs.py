"""``luthier jobs``: create, forecast, rows, list, get, events, checkpoints, cancel, pause, resume, wait.

What it does: speaks HTTP and prints. What it does not: wait (``cli/waiting.py``) or build a request
(``cli/jobs_create.py``).
"""

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from luthier.cli.client import get, post
from luthier.cli.jobs_create import create
from luthier.cli.jobs_forecast import forecast
from luthier.cli.jobs_rows import rows
from luthier.cli.options import Form, Place, pairs, with_form, with_place
from luthier.cli.output import Field, Item, show_object, show_page
from luthier.cli.render.text import number, when
from luthier.cli.waiting import LINES, duration, wait_for
from luthier.core.errors import LuthierError

if TYPE_CHECKING:
    import openai

COLUMNS = (
    Field("id", lambda j: j["id"], whole=True),
    Field("status", lambda j: j["status"].replace("_", " "), whole=True),
    Field("model", lambda j: j["model"]),
    Field("created", lambda j: when(j["created_at"]), whole=True),
    Field("took", duration, whole=True),
    Field("tuned model", lambda j: j["fine_tuned_model"] or "", whole=True),
)
EVENTS = (
    Field("when", lambda e: when(e["created_at"]), whole=True),
    Field("level", lambda e: e["level"]),
    Field("message", lambda e: e["message"]),
)


def _metric(name: str) -> Field:
    def text(item: Item) -> str:
        return number(item["metrics"].get(name))

    return Field(name.replace("_", " "), text)


CHECKPOINTS = (
    Field("id", lambda c: c["id"], whole=True),
    Field("step", lambda c: str(c["step_number"])),
    Field("model", lambda c: c["fine_tuned_model_checkpoint"], whole=True),
    Field("created", lambda c: when(c["created_at"]), whole=True),
    _metric("train_loss"),
    _metric("full_valid_loss"),
)


@click.group(epilog="Example: luthier jobs create --training-file train.jsonl --wait")
def jobs() -> None:
    """Forecast, create, watch, pause, resume and cancel fine-tuning jobs."""


jobs.add_command(create)
jobs.add_command(forecast)
jobs.add_command(rows)


@jobs.command(name="list", epilog="Example: luthier jobs list --limit 5")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many at most.")
@click.option("--after", default=None, help="Go on after this id.")
@click.option("--metadata", multiple=True, callback=pairs, help="name=value that a job must carry; repeatable.")
@with_form
@with_place
def list_jobs(limit: int, after: str | None, metadata: dict[str, str], place: Place, form: Form) -> None:
    """List jobs, newest first."""
    filters = {f"metadata[{name}]": value for name, value in metadata.items()}
    page = get(place.client(), "/fine_tuning/jobs", limit=limit, after=after, **filters)
    show_page(page, COLUMNS, form, more="luthier jobs list")


@jobs.command(name="get", epilog="Example: luthier jobs get ftjob-abc123")
@click.argument("job_id")
@with_form
@with_place
def get_job(job_id: str, place: Place, form: Form) -> None:
    """Show the job JOB_ID."""
    show_object(get(place.client(), _path(job_id)), LINES, form)


@jobs.command(epilog="Example: luthier jobs events ftjob-abc123 --limit 100")
@click.argument("job_id")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many at most, the newest ones.")
@click.option("--after", default=None, help="Go on after this id, to older ones.")
@with_form
@with_place
def events(job_id: str, limit: int, after: str | None, place: Place, form: Form) -> None:
    """Show what happened to the job JOB_ID; the newest event stands last."""
    page = get(place.client(), f"{_path(job_id)}/events", limit=limit, after=after)
    show_page(page, EVENTS, form, more=f"luthier jobs events {job_id}", oldest_first=True)


@jobs.command(epilog="Example: luthier jobs checkpoints ftjob-abc123")
@click.argument("job_id")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many at most.")
@click.option("--after", default=None, help="Go on after this id.")
@with_form
@with_place
def checkpoints(job_id: str, limit: int, after: str | None, place: Place, form: Form) -> None:
    """List the checkpoints of the job JOB_ID, newest first; each answers by its model name."""
    page = get(place.client(), f"{_path(job_id)}/checkpoints", limit=limit, after=after)
    show_page(page, CHECKPOINTS, form, more=f"luthier jobs checkpoints {job_id}")


@jobs.command(epilog="Example: luthier jobs cancel ftjob-abc123")
@click.argument("job_id")
@with_form
@with_place
def cancel(job_id: str, place: Place, form: Form) -> None:
    """Cancel the job JOB_ID at once."""
    show_object(_act(place.client(), job_id, "cancel"), LINES, form)


@jobs.command(epilog="Example: luthier jobs pause ftjob-abc123")
@click.argument("job_id")
@with_form
@with_place
def pause(job_id: str, place: Place, form: Form) -> None:
    """Pause the job JOB_ID; it keeps what it has learned, and a checkpoint of it answers."""
    show_object(_act(place.client(), job_id, "pause"), LINES, form)


@jobs.command(epilog="Example: luthier jobs resume ftjob-abc123")
@click.argument("job_id")
@with_form
@with_place
def resume(job_id: str, place: Place, form: Form) -> None:
    """Let the paused job JOB_ID go on."""
    show_object(_act(place.client(), job_id, "resume"), LINES, form)


@jobs.command(epilog="Example: luthier jobs wait ftjob-abc123 && echo trained")
@click.argument("job_id")
@with_form
@with_place
def wait(job_id: str, place: Place, form: Form) -> None:
    """Wait for the end of the job JOB_ID and show it; the exit code tells how it ended. Ctrl-C leaves the job running."""
    wait_for(place.client(), job_id, form)


def _path(job_id: str) -> str:
    return f"/fine_tuning/jobs/{quote(job_id, safe='')}"


def _act(client: "openai.OpenAI", job_id: str, action: str) -> dict[str, Any]:
    """Ask for a change of status.

    Raises:
        LuthierError: the job's status does not allow it.
    """
    import openai

    try:
        return post(client, f"{_path(job_id)}/{action}")
    except (openai.BadRequestError, openai.ConflictError) as error:
        body = error.body if isinstance(error.body, dict) else {}
        raise LuthierError(f"{body.get('message') or error.message} See: luthier jobs get {job_id}") from error
