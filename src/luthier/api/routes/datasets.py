"""``/luthier/datasets``: files of rows are checked, examined, repaired, split, imported, exported and shown; our own.

Each call makes a dataset task and waits a while for its end: small files are answered at once, large ones are asked for by the
task's id. What it does not: the work (the worker's data lanes).
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from luthier.api.bodies import json_body, retry_mark
from luthier.api.dataset_findings import findings_reply
from luthier.api.dataset_tasks import ended, find_task, new_task, one_of, task_object, use_object
from luthier.api.deps import Calling, Injected
from luthier.api.mapping import check_job
from luthier.api.replies import JsonReply, listing
from luthier.api.routes.fine_tuning import After
from luthier.api.schemas import datasets as bodies
from luthier.api.schemas.dataset_objects import Kind
from luthier.core.dataset_tasks import DatasetKind
from luthier.core.errors import InvalidRequest
from luthier.jobs.queue import RetryMark

router = APIRouter(prefix="/luthier/datasets")
_HUB = "hf://"


class Work:
    """What every call does; a dependency, so that each route names only its own body."""

    def __init__(self, request: Request, services: Injected, caller: Calling, mark: Annotated[RetryMark, Depends(retry_mark)]) -> None:
        self._request, self.services, self._caller, self._mark = request, services, caller, mark

    async def answer(self, kind: DatasetKind, body: bodies.TaskRequest, files: Mapping[str, str | None]) -> Response:
        """Make the task, or find the one of an earlier attempt; wait, and show it.

        Raises:
            NotFound: there is no such file or model.
            TooManyRequests: too many tasks of the project wait.
        """
        task = await run_in_threadpool(new_task, self.services, self._caller, kind, body, files, self._mark)
        return JsonReply(task_object(await ended(self._request, self.services, task, body.wait_seconds)))


Working = Annotated[Work, Depends(Work)]


@router.post("/check")
async def check(body: Annotated[bodies.CheckRequest, Depends(json_body(bodies.CheckRequest))], work: Working) -> Response:
    """Find every fault of a file at once, each with line, column, path, code, sentence and cure."""
    return await work.answer(DatasetKind.CHECK, body, {"file_id": body.file_id})


@router.post("/doctor")
async def doctor(body: Annotated[bodies.DoctorRequest, Depends(json_body(bodies.DoctorRequest))], work: Working) -> Response:
    """Find what is sound and will not teach what it should: duplicates, leaks, conflicts, secrets."""
    return await work.answer(DatasetKind.DOCTOR, body, {"file_id": body.file_id, "validation_file_id": body.validation_file_id})


@router.post("/fix")
async def fix(body: Annotated[bodies.FixRequest, Depends(json_body(bodies.FixRequest))], work: Working) -> Response:
    """Make a repaired copy of a file."""
    return await work.answer(DatasetKind.FIX, body, {"file_id": body.file_id})


@router.post("/redact")
async def redact(body: Annotated[bodies.RedactRequest, Depends(json_body(bodies.RedactRequest))], work: Working) -> Response:
    """Make a copy of a file without secrets and personal data."""
    return await work.answer(DatasetKind.REDACT, body, {"file_id": body.file_id})


@router.post("/split")
async def split(body: Annotated[bodies.SplitRequest, Depends(json_body(bodies.SplitRequest))], work: Working) -> Response:
    """Split a file, or stored completions, into a training and a validation file."""
    one_of(body, "file_id", "stored_completions")
    return await work.answer(DatasetKind.SPLIT, body, {"file_id": body.file_id})


@router.post("/import")
async def import_file(body: Annotated[bodies.ImportRequest, Depends(json_body(bodies.ImportRequest))], work: Working) -> Response:
    """Make a training file of CSV, TSV, Parquet, JSON, Alpaca or ShareGPT rows, or of stored completions."""
    one_of(body, "file_id", "stored_completions", "source")
    _check_source(body.source, allowed=work.services.settings.import_from_hub)
    return await work.answer(DatasetKind.IMPORT, body, {"file_id": body.file_id})


@router.post("/export")
async def export(body: Annotated[bodies.ExportRequest, Depends(json_body(bodies.ExportRequest))], work: Working) -> Response:
    """Write the rows of a file as CSV, Alpaca or ShareGPT."""
    return await work.answer(DatasetKind.EXPORT, body, {"file_id": body.file_id})


@router.post("/preview")
async def preview(body: Annotated[bodies.PreviewRequest, Depends(json_body(bodies.PreviewRequest))], work: Working) -> Response:
    """Show the tokens of one row as training sees them, and which of them are learned."""
    return await work.answer(DatasetKind.PREVIEW, body, {"file_id": body.file_id})


@router.post("/forecast")
async def forecast(body: Annotated[bodies.ForecastRequest, Depends(json_body(bodies.ForecastRequest))], work: Working) -> Response:
    """Say what a job over these files would take: tokens, steps, memory, time."""
    check_job(body.job())
    return await work.answer(DatasetKind.FORECAST, body, {"training_file": body.training_file, "validation_file": body.validation_file})


@router.get("/uses")
def file_uses(services: Injected, file_id: Annotated[str | None, Query(max_length=128)] = None) -> Response:
    """Which jobs, of all there are, train on each file or are checked against it."""
    return JsonReply(listing([use_object(use) for use in services.overview.uses(file_id or None)]))


@router.get("/tasks")
def list_tasks(
    services: Injected,
    kind: Annotated[Kind | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: After = None,
) -> Response:
    """A page of dataset tasks, newest first."""
    page = services.dataset_tasks.list(kind=None if kind is None else DatasetKind(kind), limit=limit, after=after)
    return JsonReply(listing([task_object(task) for task in page.items], has_more=page.has_more, cursors=True))


@router.get("/tasks/{task_id}")
def retrieve_task(task_id: str, services: Injected) -> Response:
    """One dataset task."""
    return JsonReply(task_object(find_task(services, task_id)))


@router.post("/tasks/{task_id}/cancel")
def cancel_task(task_id: str, services: Injected) -> Response:
    """End a dataset task at once; no file is made."""
    return JsonReply(task_object(services.dataset_tasks.cancel(task_id)))


@router.get("/tasks/{task_id}/findings")
def task_findings(task_id: str, services: Injected, format: Annotated[Literal["json", "jsonl", "csv"], Query()] = "json") -> Response:
    """Every finding of a completed task; its result holds the first 50."""
    return findings_reply(services.settings, find_task(services, task_id), format)


def _check_source(source: str | None, *, allowed: bool) -> None:
    """A server reads no paths, and goes to the network only where its operator lets it.

    Raises:
        InvalidRequest: another kind of source, or not allowed.
    """
    if source is None:
        return
    if not source.startswith(_HUB):
        message = f"Invalid 'source': expected hf://OWNER/NAME, but got {source[:100]!r}. Files of your own are uploaded first."
        raise InvalidRequest(message, code="invalid_value", param="source")
    if not allowed:
        message = (
            "Unsupported value: 'source' does not support hf:// on this server, which fetches nothing. Its operator can allow it "
            "(LUTHIER_IMPORT_FROM_HUB=1), or upload the file and name it as 'file_id'."
        )
        raise InvalidRequest(message, code="unsupported_value", param="source")
