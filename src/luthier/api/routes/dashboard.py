"""``/luthier/jobs``, ``/luthier/stream``: what the dashboard's pages read and follow; any other client may as well.

What it does: reads parameters, chooses the one piece that answers. What it does not: the pages themselves (``api/dashboard.py``).
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from luthier.api.bodies import json_body
from luthier.api.deps import Injected, Services
from luthier.api.errors import error_body
from luthier.api.job_rows import job_row
from luthier.api.job_view import TRACE_FILE, job_view
from luthier.api.replies import JsonReply, listing
from luthier.api.routes.fine_tuning import After, find_job
from luthier.api.schemas.dashboard import CancelJobsRequest
from luthier.api.tab_stream import Tab, place_of, tab_stream
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.jobs import JobStatus
from luthier.storage.job_overview import SORTS, JobFilter
from luthier.trace.levels import num_steps, rebuild, series
from luthier.trace.reader import read_events

router = APIRouter(prefix="/luthier")
_SORTS = (*SORTS, *(f"-{name}" for name in SORTS))
_METHODS = ("supervised", "dpo")
Words = Annotated[str | None, Query(max_length=200)]


def _chosen(value: str | None, allowed: tuple[str, ...], param: str) -> tuple[str, ...] | None:
    """The words of a list that is parted by commas."""
    if not value:
        return None
    words = tuple(word.strip() for word in value.split(","))
    for word in words:
        if word not in allowed:
            raise InvalidRequest(f"Invalid value: '{word}'. Supported values are: {', '.join(allowed)}.", code="invalid_value", param=param)
    return words


def _row(services: Services, job: Any) -> dict[str, Any]:
    now = services.clock()
    places = {} if job.status.is_final else services.overview.places(now)
    return job_row(job, now=int(now), places=places)


@router.get("/jobs")
def list_job_rows(
    services: Injected,
    status: Words = None,
    method: Words = None,
    model: Annotated[str | None, Query(max_length=256)] = None,
    search: Words = None,
    sort: Annotated[str, Query(max_length=32)] = "-created_at",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    after: After = None,
) -> Response:
    """A page of jobs, each with how far it is; ``total`` counts all that the filter lets through."""
    _chosen(sort, _SORTS, "sort")
    wanted = JobFilter(
        statuses=_chosen(status, tuple(JobStatus), "status"),
        methods=_chosen(method, _METHODS, "method"),
        model=model or None,
        search=search or None,
    )
    page, total = services.overview.page(wanted, sort=sort, limit=limit, after=after)
    now = services.clock()
    places = services.overview.places(now)
    rows = [job_row(job, now=int(now), places=places) for job in page.items]
    return JsonReply({**listing(rows, has_more=page.has_more), "total": total})


@router.post("/jobs/cancel")
def cancel_jobs(body: Annotated[CancelJobsRequest, Depends(json_body(CancelJobsRequest))], services: Injected) -> Response:
    """Cancel several jobs; one that cannot be is told with its reason, and the others are cancelled all the same."""
    return JsonReply(listing([_cancelled(services, job_id) for job_id in dict.fromkeys(body.ids)]))


def _cancelled(services: Services, job_id: str) -> dict[str, Any]:
    try:
        return {"id": job_id, "status": services.control.cancel(job_id).status.value, "error": None}
    except (InvalidRequest, NotFound) as refusal:
        return {"id": job_id, "status": None, "error": error_body(refusal)["error"]}


@router.get("/jobs/{job_id}/view")
def view_job(job_id: str, services: Injected) -> Response:
    """Everything that is known of a job but its steps: the five stages, epochs, answers, evaluation, quiz, insight, code."""
    job = find_job(services, job_id)
    return JsonReply(job_view(job, _row(services, job), services.settings))


@router.get("/jobs/{job_id}/metrics")
def job_metrics(
    job_id: str,
    services: Injected,
    points: Annotated[int, Query(ge=1, le=20_000)] = 2000,
    first: Annotated[int, Query(alias="from", ge=1, le=2**31)] = 1,
    last: Annotated[int | None, Query(alias="to", ge=1, le=2**31)] = None,
) -> Response:
    """Losses, accuracy, learning rate and gradient norm of the steps in at most so many buckets, each with its lowest and highest loss."""
    job = find_job(services, job_id)
    run_dir = services.settings.run_dir(job.id)
    if not num_steps(run_dir) and job.status.is_final:
        # A run of before there were levels, or of which they were lost.
        events, _ = read_events(run_dir / TRACE_FILE)
        if events:
            rebuild(run_dir, events)
    return JsonReply({"object": "luthier.metrics", **series(run_dir, points=points, first=first, last=last)})


@router.get("/stream")
def stream(
    request: Request,
    services: Injected,
    job: Annotated[str | None, Query(max_length=128)] = None,
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    last_event_id: Annotated[str | None, Query(max_length=64)] = None,
    last_header: Annotated[str | None, Header(alias="Last-Event-ID", max_length=64)] = None,
) -> Response:
    """Server-sent events: ``job`` whenever a job changes, ``trace`` for each event of ``job`` after ``after``; ids let a client go on."""
    trace = None if job is None else services.settings.run_dir(find_job(services, job).id) / TRACE_FILE
    tab = Tab(services.overview, services.clock, place_of(last_header or last_event_id, after), trace=trace)
    return tab_stream(tab, getattr(request.app.state, "stopping", lambda: False))
