"""``/completions``, the legacy endpoint (reference, section 4.4)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from luthier.api.answers import CompletionForm, Head
from luthier.api.bodies import json_body
from luthier.api.deps import Injected, Metered
from luthier.api.generations import answer
from luthier.api.model_names import find_served
from luthier.api.prompts import completion_requests, num_candidates
from luthier.api.schemas.completions import CompletionRequest
from luthier.core.ids import new_completion_id

router = APIRouter()


@router.post("/completions")
async def create_completion(
    request: Request, turn: Metered, body: Annotated[CompletionRequest, Depends(json_body(CompletionRequest))], services: Injected
) -> Response:
    """Continue texts, whole or streamed."""
    served = await run_in_threadpool(find_served, services.models, services.settings, body.model)
    requests = completion_requests(body, served.target)
    head = Head(
        id=new_completion_id(),
        created=int(services.clock()),
        model=served.name,
        fingerprint=served.fingerprint,
        num_choices=body.n or 1,
        logprobs=body.logprobs is not None,
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        num_candidates=num_candidates(body),
    )
    return await answer(request, services.engine, requests, CompletionForm(head), turn=turn, stream=bool(body.stream))
