"""Dataset tasks between request and answer: made, waited for, shown.

What it does: finds the files that a request names, stores the task, waits a while for its end; shows who uses a file. What it does not:
the work (the worker's data lanes do it). Called by ``routes/datasets.py``.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from luthier.api.deps import Services
from luthier.api.file_rules import CHECKED_PURPOSE, check_filename
from luthier.api.model_names import find_served, find_trainable
from luthier.api.schemas.datasets import TaskRequest
from luthier.core.dataset_tasks import LARGE_ANYWAY, QUICK_BYTES, DatasetKind, DatasetTask, TaskInput
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.ids import new_dataset_task_id
from luthier.core.keys import Caller
from luthier.jobs.queue import RetryMark
from luthier.storage.dataset_tasks import unknown_task
from luthier.storage.job_overview import FileUse

DATA_LANES = ("data", "data-quick")
"""The worker's roles that do tasks: all of them, and small ones alone."""
MAX_BEAT_AGE_SECONDS = 60.0
"""A lane that waits for the fork server to start says nothing for a while."""
_FIRST_LOOK, _LAST_LOOK = 0.02, 0.5


def find_task(services: Services, task_id: str) -> DatasetTask:
    """The task.

    Raises:
        NotFound: there is none.
    """
    task = services.dataset_tasks.get(task_id)
    if task is None:
        raise unknown_task(task_id)
    return task


def one_of(body: TaskRequest, *names: str) -> None:
    """Exactly one of these fields says what is read.

    Raises:
        InvalidRequest: none, or several.
    """
    given = [name for name in names if getattr(body, name) is not None]
    if len(given) != 1:
        *first, last = (f"'{name}'" for name in names)
        got = "none" if not given else " and ".join(f"'{name}'" for name in given)
        message = f"Give exactly one of {', '.join(first)} and {last}; got {got}."
        raise InvalidRequest(message, code="invalid_parameter_combination", param=names[0])


def new_task(
    services: Services, caller: Caller, kind: DatasetKind, body: TaskRequest, files: Mapping[str, str | None], mark: RetryMark
) -> DatasetTask:
    """Store the task of a checked request, or find the one that an earlier attempt of the same request made.

    Args:
        files: field of the request -> the file that it names, or None.
        mark: what tells a repetition.

    Raises:
        NotFound: there is no such file or model.
        InvalidRequest: the model cannot be trained, and a job is to be forecast; a training file is to have another ending; the
            idempotency key was used with another body.
        TooManyRequests: too many tasks of the project wait.
    """
    filename: str | None = getattr(body, "filename", None)
    if filename is not None and kind is not DatasetKind.EXPORT:
        check_filename(filename, CHECKED_PURPOSE, "filename")
    model: str | None = getattr(body, "model", None)
    if model is not None:
        find = find_trainable if kind is DatasetKind.FORECAST else find_served
        find(services.models, services.settings, model)
    inputs = tuple(_inputs(services, files))
    task = DatasetTask(
        id=new_dataset_task_id(),
        project_id=caller.project_id,
        kind=kind,
        options=body.options(),
        inputs=inputs,
        created_at=int(services.clock()),
        quick=_is_quick(kind, inputs, reads_one_row=kind is DatasetKind.PREVIEW and not getattr(body, "packing", False)),
    )
    return services.dataset_tasks.add(task, mark, queue_limit=services.settings.waiting_dataset_tasks)


def _inputs(services: Services, files: Mapping[str, str | None]) -> Iterator[TaskInput]:
    for field, file_id in files.items():
        if file_id is None:
            continue
        record = services.files.get(file_id)
        if record is None:
            raise NotFound(f"No such File object: {file_id}", param=field)
        yield TaskInput(role=field, file_id=record.id, filename=record.filename, sha256=record.sha256, bytes=record.bytes)


def _is_quick(kind: DatasetKind, inputs: tuple[TaskInput, ...], *, reads_one_row: bool) -> bool:
    """Small work. A preview reads one row, unless it packs; without a file, nobody knows the size before."""
    if reads_one_row:
        return True
    return kind not in LARGE_ANYWAY and bool(inputs) and sum(one.bytes for one in inputs) <= QUICK_BYTES


async def ended(request: Request, services: Services, task: DatasetTask, seconds: float) -> DatasetTask:
    """The task at its end, or as it stands after ``seconds``, or when the client is gone, or when no worker is there to do it."""
    if seconds == 0 or not await run_in_threadpool(_is_served, services, task):
        return task
    deadline, look = time.monotonic() + seconds, _FIRST_LOOK
    while not task.status.is_final and time.monotonic() < deadline and not await request.is_disconnected():
        await asyncio.sleep(min(look, max(0.0, deadline - time.monotonic())))
        look = min(_LAST_LOOK, look * 1.2)
        task = await run_in_threadpool(find_task, services, task.id)
    return task


def _is_served(services: Services, task: DatasetTask) -> bool:
    large, quick = DATA_LANES
    beat = services.workers.latest(quick if task.quick else large)
    return beat is not None and abs(services.clock() - beat) <= MAX_BEAT_AGE_SECONDS


def use_object(use: FileUse) -> dict[str, Any]:
    """The ``luthier.dataset_use`` object."""
    return {
        "object": "luthier.dataset_use",
        "file_id": use.file_id,
        "jobs": use.jobs,
        "unfinished": use.unfinished,
        "named": [{"id": id, "suffix": suffix, "status": status} for id, suffix, status in use.named],
    }


def task_object(task: DatasetTask) -> dict[str, Any]:
    """The ``luthier.dataset_task`` object."""
    return {
        "id": task.id,
        "object": "luthier.dataset_task",
        "kind": task.kind.value,
        "status": task.status.value,
        "created_at": task.created_at,
        "finished_at": task.finished_at,
        "options": task.options,
        "progress": task.progress,
        "num_findings": task.num_findings,
        "result": task.result,
        "error": task.error,
    }
