"""``luthier batches``: create, list, get, cancel, wait, results.

What it does: speaks HTTP, prints, and waits with a bar on standard error. What it does not: run requests (the server does).
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from luthier.cli.client import get, post
from luthier.cli.exit_codes import ExitCode, JobEnded, WaitDetached
from luthier.cli.options import Form, Place, pairs, with_form, with_place
from luthier.cli.output import Field, Item, show_object, show_page
from luthier.cli.printing import printable_output
from luthier.cli.render.text import seconds, when
from luthier.cli.upload import upload
from luthier.cli.waiting import PATIENT_RETRIES
from luthier.core.errors import InvalidRequest, LuthierError

if TYPE_CHECKING:
    import openai

POLL_SECONDS = 0.5
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
_ENDS = {"completed": "completed_at", "failed": "failed_at", "expired": "expired_at", "cancelled": "cancelled_at"}
_CODES = {"failed": ExitCode.DATA_INVALID, "cancelled": ExitCode.CANCELLED, "expired": ExitCode.FAILED}
_CHUNK_BYTES = 1024 * 1024


def _counts(batch: Item) -> str:
    counts = batch["request_counts"]
    failed = f", {counts['failed']:,} failed" if counts["failed"] else ""
    return f"{counts['completed']:,} of {counts['total']:,}{failed}"


def _took(batch: Item) -> str:
    ended = batch.get(_ENDS.get(batch["status"], ""))
    if not ended:
        return ""
    # The API tells whole seconds.
    return seconds(ended - batch["created_at"]) if ended > batch["created_at"] else "under 1 s"


def _faults(batch: Item) -> str:
    found = (batch.get("errors") or {}).get("data") or []
    shown = [f"line {fault['line']}: {fault['message']}" if fault.get("line") else fault["message"] for fault in found[:5]]
    return "; ".join(shown) + (f" ... and {len(found) - 5} more" if len(found) > 5 else "")


COLUMNS = (
    Field("id", lambda b: b["id"], whole=True),
    Field("status", lambda b: b["status"].replace("_", " "), whole=True),
    Field("answered", _counts, whole=True),
    Field("model", lambda b: b.get("model") or ""),
    Field("created", lambda b: when(b["created_at"]), whole=True),
    Field("took", _took, whole=True),
)
LINES = (
    Field("batch", lambda b: b["id"]),
    Field("status", lambda b: b["status"].replace("_", " ")),
    Field("answered", _counts),
    Field("endpoint", lambda b: b["endpoint"]),
    Field("model", lambda b: b.get("model") or ""),
    Field("input file", lambda b: b["input_file_id"]),
    Field("output file", lambda b: b.get("output_file_id") or ""),
    Field("error file", lambda b: b.get("error_file_id") or ""),
    Field("tokens", lambda b: f"{b['usage']['total_tokens']:,}" if b.get("usage") else ""),
    Field("metadata", lambda b: ", ".join(f"{k}={v}" for k, v in (b.get("metadata") or {}).items())),
    Field("created", lambda b: when(b["created_at"])),
    Field("took", _took),
    Field("errors", _faults),
)


@click.group(epilog="Example: luthier batches create requests.jsonl --wait")
def batches() -> None:
    """Answer a file of requests in the background."""


@batches.command(epilog="Example: luthier batches create requests.jsonl --endpoint /v1/chat/completions --wait")
@click.argument("file")
@click.option("--endpoint", type=click.Choice(ENDPOINTS), default=ENDPOINTS[0], show_default=True, help="The route that answers them.")
@click.option("--metadata", multiple=True, callback=pairs, help="name=value to keep with the batch; repeatable.")
@click.option("--wait", "waiting", is_flag=True, help="Wait for its end; the exit code tells how it ended.")
@with_form
@with_place
def create(file: str, endpoint: str, metadata: dict[str, str], waiting: bool, place: Place, form: Form) -> None:
    """Begin a batch over FILE: a local file of requests, which is uploaded first, or the id of an uploaded one."""
    client = place.client()
    if Path(file).is_file():
        file = upload(client, Path(file), "batch")["id"]
    elif not file.startswith("file-"):
        raise InvalidRequest(f"There is no file {file}, and it is no file's id either. See: luthier files list")
    body: dict[str, Any] = {"input_file_id": file, "endpoint": endpoint, "completion_window": "24h"}
    batch = post(client, "/batches", {**body, **({"metadata": metadata} if metadata else {})})
    if waiting:
        wait_for(client, batch["id"], form)
    else:
        show_object(batch, LINES, form)


@batches.command(name="list", epilog="Example: luthier batches list --limit 5")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="How many at most.")
@click.option("--after", default=None, help="Go on after this id.")
@with_form
@with_place
def list_batches(limit: int, after: str | None, place: Place, form: Form) -> None:
    """List batches, newest first."""
    show_page(get(place.client(), "/batches", limit=limit, after=after), COLUMNS, form, more="luthier batches list")


@batches.command(name="get", epilog="Example: luthier batches get batch_abc123")
@click.argument("batch_id")
@with_form
@with_place
def get_batch(batch_id: str, place: Place, form: Form) -> None:
    """Show the batch BATCH_ID."""
    show_object(get(place.client(), _path(batch_id)), LINES, form)


@batches.command(epilog="Example: luthier batches cancel batch_abc123")
@click.argument("batch_id")
@with_form
@with_place
def cancel(batch_id: str, place: Place, form: Form) -> None:
    """Stop the batch BATCH_ID; what is answered is kept."""
    import openai

    try:
        batch = post(place.client(), f"{_path(batch_id)}/cancel")
    except openai.BadRequestError as error:
        body = error.body if isinstance(error.body, dict) else {}
        raise LuthierError(f"{body.get('message') or error.message} See: luthier batches get {batch_id}") from error
    show_object(batch, LINES, form)


@batches.command(epilog="Example: luthier batches wait batch_abc123 && luthier batches results batch_abc123 > answers.jsonl")
@click.argument("batch_id")
@with_form
@with_place
def wait(batch_id: str, place: Place, form: Form) -> None:
    """Wait for the end of the batch BATCH_ID and show it; the exit code tells how it ended. Ctrl-C leaves it running."""
    wait_for(place.client(), batch_id, form)


@batches.command(epilog="Example: luthier batches results batch_abc123 > answers.jsonl")
@click.argument("batch_id")
@click.option("--errors", is_flag=True, help="The requests that failed instead of the answers.")
@with_place
def results(batch_id: str, errors: bool, place: Place) -> None:
    """Write the answers of the batch BATCH_ID, one JSON line each, to standard output."""
    client = place.client()
    batch = get(client, _path(batch_id))
    file_id = batch["error_file_id" if errors else "output_file_id"]
    if file_id is None:
        if batch["status"] not in _ENDS:
            raise InvalidRequest(f"{batch_id} is not done yet ({_counts(batch)}). Wait for it with: luthier batches wait {batch_id}")
        click.echo(f"{batch_id} has no {'failed requests' if errors else 'answers'}.", err=True)
        return
    with client.files.with_streaming_response.content(file_id) as content:
        for piece in content.iter_bytes(_CHUNK_BYTES):
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _path(batch_id: str) -> str:
    return f"/batches/{quote(batch_id, safe='')}"


def wait_for(client: "openai.OpenAI", batch_id: str, form: Form) -> None:
    """Wait until the batch is final, and print it.

    Raises:
        JobEnded: it failed, expired, or was cancelled.
        WaitDetached: Ctrl-C.
    """
    printable_output()
    try:
        get(client, _path(batch_id))  # a wrong id or address ends the wait at once
        batch = _followed(client.with_options(max_retries=PATIENT_RETRIES), batch_id)
    except KeyboardInterrupt:
        raise WaitDetached(f"No longer waiting; {batch_id} goes on. Wait again with: luthier batches wait {batch_id}") from None
    show_object(batch, LINES, form)
    if batch["status"] in _CODES:
        why = _faults(batch)
        sentence = f"{batch_id} ended as {batch['status']}{f': {why}' if why else '.'} See: luthier batches get {batch_id}"
        raise JobEnded(sentence, _CODES[batch["status"]])


def _followed(client: "openai.OpenAI", batch_id: str) -> dict[str, Any]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("validating", total=None)
        while True:
            batch = get(client, _path(batch_id))
            counts = batch["request_counts"]
            done = counts["completed"] + counts["failed"]
            progress.update(task, description=batch["status"].replace("_", " "), total=counts["total"] or None, completed=done)
            if batch["status"] in _ENDS:
                return batch
            time.sleep(POLL_SECONDS)
