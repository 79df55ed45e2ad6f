"""``/fine_tuning/jobs``: create, list, retrieve, cancel, pause, resume, events, checkpoints (reference, sections 2.1 to 2.6)."""

import re
import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from luthier.api.bodies import json_body, retry_mark
from luthier.api.deps import Calling, Injected, Services
from luthier.api.job_stream import event_stream
from luthier.api.mapping import JobParts, check_method, checkpoint_object, event_object, job_object, new_job
from luthier.api.model_names import find_trainable
from luthier.api.replies import JsonReply, listing
from luthier.api.routes.files import find_file
from luthier.api.schemas.fine_tuning import JobCreateRequest
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.ids import new_job_id
from luthier.core.jobs import FileRecord, Job
from luthier.jobs.queue import RetryMark

router = APIRouter(prefix="/fine_tuning/jobs")
_METADATA_KEY = re.compile(r"metadata\[(.*)\]", re.DOTALL)
_MAX_METADATA_FILTERS = 16

Limit = Annotated[int, Query(ge=1, le=1000)]
After = Annotated[str | None, Query(max_length=128)]


def find_job(services: Services, job_id: str) -> Job:
    """The job.

    Raises:
        NotFound: OpenAI's words for a job that is not there.
    """
    job = services.jobs.get(job_id)
    if job is None:
        raise NotFound(f"Could not find fine tune: {job_id}", code="fine_tune_not_found", param="fine_tune_id")
    return job


def shown_job(services: Services, job: Job) -> dict[str, object]:
    """The ``fine_tuning.job`` object as this server shows it."""
    settings = services.settings
    return job_object(job, organization=settings.organization, spec_strict=settings.spec_strict, now=int(services.clock()))


def _input_file(services: Services, file_id: str, param: str) -> FileRecord:
    record = find_file(services, file_id)
    if record is None:
        raise InvalidRequest(f"invalid {param}: {file_id}", param=param)
    if record.purpose != "fine-tune":
        message = f"invalid {param}: {file_id} has the purpose '{record.purpose}', but must have the purpose 'fine-tune'"
        raise InvalidRequest(message, param=param)
    return record


@router.post("")
def create_job(
    body: Annotated[JobCreateRequest, Depends(json_body(JobCreateRequest))],
    mark: Annotated[RetryMark, Depends(retry_mark)],
    services: Injected,
    caller: Calling,
) -> Response:
    """Queue a job, or answer with the one that an earlier attempt of the same request made."""
    check_method(body)
    parts = JobParts(
        id=new_job_id(),
        created_at=int(services.clock()),
        seed=secrets.randbelow(2**31),
        trainable=find_trainable(services.models, services.settings, body.model),
        training=_input_file(services, body.training_file, "training_file"),
        validation=None if body.validation_file is None else _input_file(services, body.validation_file, "validation_file"),
    )
    job = services.queue.submit(new_job(body, parts), retry=mark, daily_limit=caller.limits.jobs_per_day)
    return JsonReply(shown_job(services, job))


def metadata_filter(request: Request) -> tuple[dict[str, str], bool]:
    """``metadata[k]=v`` pairs, and whether ``metadata=null`` was asked for. An empty ``metadata`` filters nothing.

    Raises:
        InvalidRequest: too many pairs, or ``metadata`` is anything else.
    """
    filters: dict[str, str] = {}
    for key, value in request.query_params.multi_items():
        match = _METADATA_KEY.fullmatch(key)
        if match is not None:
            filters[match[1]] = value
    if len(filters) > _MAX_METADATA_FILTERS:
        raise InvalidRequest(f"At most {_MAX_METADATA_FILTERS} metadata filters are allowed.", code="invalid_value", param="metadata")
    whole = request.query_params.get("metadata")
    if whole not in (None, "", "null"):
        message = "Invalid 'metadata': use metadata[KEY]=VALUE to filter by a value, or metadata=null for jobs without metadata."
        raise InvalidRequest(message, code="invalid_value", param="metadata")
    return filters, whole == "null"


@router.get("")
def list_jobs(request: Request, services: Injected, limit: Limit = 20, after: After = None) -> Response:
    """A page of jobs, newest first."""
    metadata, is_null = metadata_filter(request)
    page = services.jobs.list(limit=limit, after=after, metadata=metadata or None, metadata_is_null=is_null)
    return JsonReply(listing([shown_job(services, job) for job in page.items], has_more=page.has_more))


@router.get("/{job_id}")
def retrieve_job(job_id: str, services: Injected) -> Response:
    """One job."""
    return JsonReply(shown_job(services, find_job(services, job_id)))


@router.post("/{job_id}/cancel")
def cancel_job(job_id: str, services: Injected) -> Response:
    """Cancel a job at once; its runner notices at its next write."""
    find_job(services, job_id)
    return JsonReply(shown_job(services, services.control.cancel(job_id)))


@router.post("/{job_id}/pause")
def pause_job(job_id: str, services: Injected) -> Response:
    """Pause a job at once; its runner stops at its next step, saves a resume state, and makes what was learned a callable checkpoint."""
    find_job(services, job_id)
    return JsonReply(shown_job(services, services.control.pause(job_id)))


@router.post("/{job_id}/resume")
def resume_job(job_id: str, services: Injected) -> Response:
    """Put a paused job back into the queue; it goes on from its newest resume state."""
    find_job(services, job_id)
    return JsonReply(shown_job(services, services.control.resume(job_id)))


@router.get("/{job_id}/events")
def list_events(job_id: str, services: Injected, limit: Limit = 20, after: After = None, stream: bool = False) -> Response:
    """A page of a job's events, newest first; or, with ``stream=true``, all of them from the oldest on, as they come."""
    find_job(services, job_id)
    if stream:
        start = 0 if after is None else services.jobs.event_sequence(job_id, after)
        return event_stream(services.jobs, job_id, start)
    page = services.jobs.events(job_id, limit=limit, after=after)
    return JsonReply(listing([event_object(event) for event in page.items], has_more=page.has_more))


@router.get("/{job_id}/checkpoints")
def list_checkpoints(job_id: str, services: Injected, limit: Limit = 10, after: After = None) -> Response:
    """A page of a job's checkpoints, newest first."""
    find_job(services, job_id)
    page = services.jobs.checkpoints(job_id, limit=limit, after=after)
    return JsonReply(listing([checkpoint_object(c) for c in page.items], has_more=page.has_more, cursors=True))
