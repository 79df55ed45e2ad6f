"""``/chat/completions`` that were kept: list, retrieve, change, delete, messages (reference, section 4.3)."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from luthier.api.bodies import json_body
from luthier.api.deps import Injected, Services
from luthier.api.model_names import shown_name
from luthier.api.replies import JsonReply, listing
from luthier.api.routes.fine_tuning import After, Limit, metadata_filter
from luthier.api.schemas.chat import StoredCompletionUpdate
from luthier.api.stored import completion_object, message_page
from luthier.core.errors import NotFound
from luthier.core.stored_completions import StoredCompletion

router = APIRouter(prefix="/chat/completions")
Order = Literal["asc", "desc"]


def _unknown(completion_id: str) -> NotFound:
    return NotFound(f"No such chat completion: {completion_id}. Only completions created with 'store': true are kept.", param="id")


def _required(services: Services, completion_id: str) -> StoredCompletion:
    record = services.stored_completions.get(completion_id)
    if record is None:
        raise _unknown(completion_id)
    return record


@router.get("")
def list_chat_completions(
    request: Request,
    services: Injected,
    model: Annotated[str | None, Query(max_length=256)] = None,
    limit: Limit = 20,
    order: Order = "asc",
    after: After = None,
) -> Response:
    """A page of stored chat completions, oldest first."""
    metadata, _ = metadata_filter(request)
    page = services.stored_completions.list(
        model=None if model is None else shown_name(model), metadata=metadata, limit=limit, order=order, after=after
    )
    return JsonReply(listing([completion_object(record) for record in page.items], has_more=page.has_more, cursors=True))


@router.get("/{completion_id}")
def retrieve_chat_completion(completion_id: str, services: Injected) -> Response:
    """One stored chat completion."""
    return JsonReply(completion_object(_required(services, completion_id)))


@router.post("/{completion_id}")
def update_chat_completion(
    completion_id: str, body: Annotated[StoredCompletionUpdate, Depends(json_body(StoredCompletionUpdate))], services: Injected
) -> Response:
    """Replace a stored chat completion's metadata."""
    if not services.stored_completions.set_metadata(completion_id, body.metadata or {}):
        raise _unknown(completion_id)
    return JsonReply(completion_object(_required(services, completion_id)))


@router.delete("/{completion_id}")
def delete_chat_completion(completion_id: str, services: Injected) -> Response:
    """Delete a stored chat completion and all that was said in it."""
    if not services.stored_completions.delete(completion_id):
        raise _unknown(completion_id)
    return JsonReply({"object": "chat.completion.deleted", "id": completion_id, "deleted": True})


@router.get("/{completion_id}/messages")
def list_chat_completion_messages(
    completion_id: str, services: Injected, limit: Limit = 20, order: Order = "asc", after: After = None
) -> Response:
    """A page of the messages that a stored chat completion answers."""
    messages, has_more = message_page(_required(services, completion_id), limit=limit, order=order, after=after)
    return JsonReply(listing(messages, has_more=has_more, cursors=True))
