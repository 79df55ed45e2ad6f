"""``/responses``: create, retrieve, delete, input items, cancel, count input tokens (reference, section 4.5)."""

import contextlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from luthier.api.bodies import json_body
from luthier.api.deps import Injected, Metered, Services
from luthier.api.generations import while_connected
from luthier.api.model_names import ServedModel, find_served
from luthier.api.replies import JsonReply, listing
from luthier.api.response_form import ResponseForm, ResponseHead, Save
from luthier.api.response_items import Item, check_context, input_items, messages_of
from luthier.api.response_prompts import (
    Body,
    instruction_messages,
    offered_tools,
    question_of,
    refuse_nothing_to_answer,
    refuse_unoffered,
)
from luthier.api.response_run import begin, resumed
from luthier.api.schemas.responses import Include, InputTokensRequest, ResponseRequest
from luthier.api.sse import EventStream
from luthier.core.engine_messages import Render, RenderedTokens
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.ids import new_message_id, new_response_id

router = APIRouter(prefix="/responses")
_RENDER_SECONDS = 60.0

# Everything that could be included stands in the answers anyway.
Included = Annotated[list[Include] | None, Query(max_length=16)]


def _not_found(response_id: str) -> NotFound:
    return NotFound(f"Response with id '{response_id}' not found.")


def _stored(services: Services, response_id: str) -> dict[str, Any]:
    body = services.responses.get(response_id)
    if body is None:
        raise _not_found(response_id)
    return body


def _earlier(services: Services, response_id: str | None) -> tuple[Item, ...]:
    if response_id is None:
        return ()
    context = services.responses.context(response_id)
    if context is None:
        message = f"Previous response with id '{response_id}' not found."
        raise InvalidRequest(message, code="previous_response_not_found", param="previous_response_id")
    return context


def _prepared(services: Services, body: Body) -> tuple[ServedModel, tuple[Item, ...]]:
    """The model, and the whole context: the items of the earlier response, then the new ones."""
    refuse_unoffered(body)
    refuse_nothing_to_answer(body)
    served = find_served(services.models, services.settings, body.model)
    items = (*_earlier(services, body.previous_response_id), *input_items(body.input, services.responses.find_item))
    check_context(items)
    return served, items


def _keeper(services: Services, body: ResponseRequest, items: Sequence[Item]) -> Save:
    async def save(response: dict[str, Any]) -> None:
        if body.store is not False:
            await run_in_threadpool(services.responses.add, response, items)

    return save


@router.post("")
async def create_response(
    request: Request, turn: Metered, body: Annotated[ResponseRequest, Depends(json_body(ResponseRequest))], services: Injected
) -> Response:
    """Answer an input, whole or streamed, alone or after an earlier response."""
    served, items = await run_in_threadpool(_prepared, services, body)
    head = ResponseHead(
        id=new_response_id(),
        message_id=new_message_id(),
        created_at=int(services.clock()),
        model=served.name,
        body=body,
        clock=services.clock,
    )
    form = ResponseForm(head, _keeper(services, body, items))
    first, replies = await while_connected(request, begin(services.engine, question_of(body, served.target, items), turn))
    if body.stream:
        return EventStream(form.streamed(resumed(first, replies)), replies, form.frames)
    async with contextlib.aclosing(replies):
        return JsonReply(await while_connected(request, form.whole(resumed(first, replies))))


@router.post("/input_tokens")
async def count_input_tokens(body: Annotated[InputTokensRequest, Depends(json_body(InputTokensRequest))], services: Injected) -> Response:
    """The number of tokens that a response with this input would read."""
    served, items = await run_in_threadpool(_prepared, services, body)
    messages = (*instruction_messages(body), *messages_of(items))
    reply = await services.engine.request(
        Render(target=served.target, messages=messages, tools=offered_tools(body)), timeout_seconds=_RENDER_SECONDS
    )
    assert isinstance(reply, RenderedTokens)
    return JsonReply({"object": "response.input_tokens", "input_tokens": len(reply.tokens)})


@router.get("/{response_id}")
def retrieve_response(
    response_id: str,
    services: Injected,
    stream: bool = False,
    include: Included = None,
    include_obfuscation: bool | None = None,
    starting_after: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """A stored response, up to 30 days after it was created."""
    body = _stored(services, response_id)
    if stream:
        message = "Unsupported value: 'stream' does not support true here. Only responses created in the background can be streamed again."
        raise InvalidRequest(message, code="unsupported_value", param="stream")
    return JsonReply(body)


@router.delete("/{response_id}")
def delete_response(response_id: str, services: Injected) -> Response:
    """Delete a stored response; later ones that followed it keep their context."""
    if not services.responses.delete(response_id):
        raise _not_found(response_id)
    return JsonReply({"id": response_id, "object": "response", "deleted": True})


@router.post("/{response_id}/cancel")
def cancel_response(response_id: str, services: Injected) -> Response:
    """Refused: only responses created in the background could be cancelled."""
    _stored(services, response_id)
    message = "Cannot cancel a synchronous response. Only responses created with 'background' set to true can be cancelled."
    raise InvalidRequest(message)


@router.get("/{response_id}/input_items")
def list_input_items(
    response_id: str,
    services: Injected,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: Annotated[str | None, Query(max_length=128)] = None,
    include: Included = None,
) -> Response:
    """A page of the items that a response was made from, earlier turns included."""
    _stored(services, response_id)
    page = services.responses.input_items(response_id, limit=limit, order=order, after=after)
    return JsonReply(listing(page.items, has_more=page.has_more, cursors=True))
