"""``/luthier``: what OpenAI does not have: a job's trace, its losses by line, a conversation as tokens, and this API's own description."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from luthier.api.bodies import json_body
from luthier.api.deps import Injected
from luthier.api.job_view import TRACE_FILE
from luthier.api.model_names import find_served
from luthier.api.prompts import plain_messages
from luthier.api.replies import JsonReply, listing
from luthier.api.routes.fine_tuning import find_job
from luthier.api.row_losses import RowOrder, row_loss_page
from luthier.api.schemas.luthier import RenderRequest
from luthier.core.engine_messages import Render, RenderedTokens
from luthier.trace.events import event_to_dict
from luthier.trace.reader import read_events

router = APIRouter(prefix="/luthier")

_RENDER_SECONDS = 60.0


@router.get("/jobs/{job_id}/trace")
def job_trace(
    job_id: str,
    services: Injected,
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=10000)] = 1000,
) -> Response:
    """A page of a job's trace events, oldest first; ``after`` is the id of the last event already read."""
    job = find_job(services, job_id)
    events, has_more = read_events(services.settings.run_dir(job.id) / TRACE_FILE, after=after, limit=limit)
    return JsonReply(listing([event_to_dict(event) for event in events], has_more=has_more))


@router.get("/jobs/{job_id}/row_losses")
def job_row_losses(
    job_id: str,
    services: Injected,
    epoch: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
    order: RowOrder = "line",
    after: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    limit: Annotated[int, Query(ge=1, le=10000)] = 100,
) -> Response:
    """A page of the mean loss of each training line in one epoch, by default the latest; ``after`` is the line of the last row read."""
    job = find_job(services, job_id)
    run_dir = services.settings.run_dir(job.id)
    return JsonReply(row_loss_page(run_dir, epoch=epoch, order=order, after=after, limit=limit))


@router.post("/render")
async def render(body: Annotated[RenderRequest, Depends(json_body(RenderRequest))], services: Injected) -> Response:
    """The tokens that a model reads for a conversation, each with its kind, role and message."""
    served = await run_in_threadpool(find_served, services.models, services.settings, body.model)
    message = Render(target=served.target, messages=plain_messages(body.messages), add_generation_prompt=body.add_generation_prompt)
    reply = await services.engine.request(message, timeout_seconds=_RENDER_SECONDS)
    assert isinstance(reply, RenderedTokens)
    return JsonReply({"object": "luthier.rendering", "model": served.name, "tokens": list(reply.tokens)})


@router.get("/openapi.json")
def openapi(request: Request) -> Response:
    """The OpenAPI document of this server: every route with its parameters, bodies and answers."""
    # Here, because making the shapes of all answers takes a tenth of a second and a server rarely needs them.
    from luthier.api.openapi import openapi_document

    return JsonReply(openapi_document(request.app))
