"""``/chat/completions`` (reference, section 4.2)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from luthier.api.answers import ChatForm, Head
from luthier.api.bodies import json_body
from luthier.api.deps import Injected
from luthier.api.generations import answer
from luthier.api.model_names import find_served
from luthier.api.prompts import chat_requests
from luthier.api.schemas.chat import ChatRequest
from luthier.core.ids import new_chat_completion_id

router = APIRouter()


@router.post("/chat/completions")
async def create_chat_completion(
    request: Request, body: Annotated[ChatRequest, Depends(json_body(ChatRequest))], services: Injected
) -> Response:
    """Answer a conversation, whole or streamed."""
    served = await run_in_threadpool(find_served, services.models, services.settings, body.model)
    requests = chat_requests(body, served.target)
    head = Head(
        id=new_chat_completion_id(),
        created=int(services.clock()),
        model=served.name,
        fingerprint=served.fingerprint,
        num_choices=body.n or 1,
        logprobs=bool(body.logprobs),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
    )
    return await answer(request, services.engine, requests, ChatForm(head), stream=bool(body.stream))
