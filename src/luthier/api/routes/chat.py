"""``/chat/completions`` (reference, section 4.2)."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from luthier.api.answers import ChatForm, Head
from luthier.api.bodies import json_body
from luthier.api.deps import Injected, Services
from luthier.api.generations import Keep, answer
from luthier.api.model_names import find_served
from luthier.api.prompts import chat_requests
from luthier.api.schemas.chat import ChatRequest
from luthier.api.stored import stored_completion
from luthier.core.ids import new_chat_completion_id

router = APIRouter()


def _keeping(request: Request, body: ChatRequest, services: Services) -> Keep:
    """Stores an answer, so that it is durable before the client has all of it."""

    async def keep(completion: dict[str, Any]) -> dict[str, Any]:
        record = stored_completion(body, completion, request.state.request_id)
        await run_in_threadpool(services.stored_completions.add, record)
        return {**completion, "metadata": record.metadata}

    return keep


@router.post("/chat/completions")
async def create_chat_completion(
    request: Request, body: Annotated[ChatRequest, Depends(json_body(ChatRequest))], services: Injected
) -> Response:
    """Answer a conversation, whole or streamed; ``store`` keeps the answer."""
    served = await run_in_threadpool(find_served, services.models, services.settings, body.model)
    requests = chat_requests(body, served.target)
    options = body.stream_options
    head = Head(
        id=new_chat_completion_id(),
        created=int(services.clock()),
        model=served.name,
        fingerprint=served.fingerprint,
        num_choices=body.n or 1,
        logprobs=bool(body.logprobs),
        include_usage=bool(options and options.include_usage),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        deprecated_functions=body.functions is not None,
        obfuscated=options is None or options.include_obfuscation is not False,
    )
    keep = _keeping(request, body, services) if body.store else None
    return await answer(request, services.engine, requests, ChatForm(head), stream=bool(body.stream), keep=keep)
