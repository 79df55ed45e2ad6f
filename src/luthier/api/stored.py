"""Stored chat completions as records, as OpenAI's objects and as training rows (reference, sections 4.3 and 3.2). Pure.

What it does not: store or look up. Called by ``routes/chat.py``, ``routes/stored_completions.py`` and ``routes/rescue.py``.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from luthier.api.offered_tools import given_tools
from luthier.api.prompts import plain_messages
from luthier.api.schemas.chat import ChatMessage, ChatRequest
from luthier.core.errors import NotFound
from luthier.core.stored_completions import StoredCompletion

_COMPLETE = ("stop", "tool_calls", "function_call")


def stored_completion(body: ChatRequest, answer: dict[str, Any], request_id: str) -> StoredCompletion:
    """The record of a complete answer; what was asked for stands in the object too, as upstream's listing shows it."""
    tools = given_tools(body)
    asked = {
        "request_id": request_id,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "presence_penalty": body.presence_penalty or 0.0,
        "frequency_penalty": body.frequency_penalty or 0.0,
        "seed": body.seed,
        "input_user": body.user,
        "tools": list(tools) or None,
        "tool_choice": body.function_call if body.functions is not None else body.tool_choice,
        "response_format": body.response_format,
    }
    return StoredCompletion(
        id=answer["id"],
        created_at=answer["created"],
        model=answer["model"],
        completion={**answer, **asked},
        messages=tuple(message.model_dump(exclude_none=True) for message in body.messages),
        tools=tools,
        metadata=body.metadata or {},
    )


def completion_object(record: StoredCompletion) -> dict[str, Any]:
    """The stored ``chat.completion`` object."""
    return {**record.completion, "metadata": record.metadata}


def _message_object(completion_id: str, index: int, message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    (plain,) = plain_messages([ChatMessage.model_validate(message)])
    return {
        "refusal": None,
        **message,
        "id": f"{completion_id}-{index}",
        "content": None if content is None else plain["content"],
        "content_parts": parts,
    }


def message_page(record: StoredCompletion, *, limit: int, order: str, after: str | None) -> tuple[list[dict[str, Any]], bool]:
    """A page of the input messages, and whether more follow.

    Raises:
        NotFound: ``after`` is no message of this completion.
    """
    messages = [_message_object(record.id, index, message) for index, message in enumerate(record.messages)]
    if order == "desc":
        messages.reverse()
    if after is not None:
        ids = [message["id"] for message in messages]
        if after not in ids:
            raise NotFound(f"No such message: {after}", param="after")
        messages = messages[ids.index(after) + 1 :]
    return messages[:limit], len(messages) > limit


def _training_message(message: dict[str, Any]) -> dict[str, Any]:
    (plain,) = plain_messages([ChatMessage.model_validate(message)])
    if "function_call" in message and not message.get("tool_calls"):
        # A call in the deprecated form is answered by a message without an id: it keeps that form.
        plain.pop("tool_calls")
        plain["function_call"] = message["function_call"]
    # Only the captured answer is learned: the turns before it are what the model was given.
    return {**plain, "weight": 0} if plain["role"] == "assistant" else plain


def _is_trainable(messages: Sequence[dict[str, Any]]) -> bool:
    """What a job checks between messages: no empty answer, and calls and their results in pairs; a row may end on a call."""
    open_ids: set[str] = set()
    for message in messages:
        calls = message.get("tool_calls") or ()
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_ids:
                return False
            open_ids.discard(message["tool_call_id"])
            continue
        is_answer = message["role"] == "assistant"
        if open_ids or (calls and not is_answer) or ("function_call" in message and not is_answer):
            return False
        if is_answer and not (message["content"] or calls or "function_call" in message):
            return False
        open_ids = {call["id"] for call in calls}
    return True


def training_rows(record: StoredCompletion) -> tuple[list[bytes], int]:
    """One JSONL line for each choice that is complete and that a job would take, and how many choices were left out."""
    asked = [_training_message(message) for message in record.messages]
    lines: list[bytes] = []
    choices = record.completion["choices"]
    for choice in choices:
        said = choice["message"]
        answer: dict[str, Any] = {"role": "assistant", "content": said["content"] or ""}
        for name in ("tool_calls", "function_call"):
            if said.get(name):
                answer[name] = said[name]
        messages = [*asked, answer]
        if choice["finish_reason"] in _COMPLETE and _is_trainable(messages):
            row = {"messages": messages, **({"tools": list(record.tools)} if record.tools else {})}
            lines.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return lines, len(choices) - len(lines)
