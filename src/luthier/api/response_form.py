"""From the engine's replies to a response object, whole or as named stream events (reference, section 4.5).

What it does: the object with all its fields, the events in their order with their numbers, errors after the start as an
``error`` event and a failed response. What it does not: generate, store (its caller hands it a ``save``), or shape function
calls (``response_calls.py``). Called by ``routes/responses.py``.
"""

import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from luthier.api.answers import chat_logprobs
from luthier.api.errors import error_body
from luthier.api.generations import Replies
from luthier.api.response_calls import call_events, call_items
from luthier.api.response_prompts import LOGPROBS
from luthier.api.schemas.responses import ResponseRequest, ResponseTool
from luthier.core.engine_messages import Finished, TokenChunk
from luthier.core.errors import InvalidRequest, LuthierError, TooManyRequests
from luthier.core.generation import FinishReason, TokenLogprob

_LOG = logging.getLogger("luthier.api")
_PADDED_CHARACTERS = 16

Event = dict[str, Any]
Save = Callable[[dict[str, Any]], Awaitable[None]]
"""Keeps a finished response object, before its client hears of the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """What all parts of one response share."""

    id: str
    message_id: str
    created_at: int
    model: str
    body: ResponseRequest
    clock: Callable[[], float]


def _tool(tool: ResponseTool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": True if tool.strict is None else tool.strict,
    }


def _usage(finished: Finished) -> dict[str, Any]:
    return {
        "input_tokens": finished.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": finished.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": finished.prompt_tokens + finished.completion_tokens,
    }


def _failure(error: LuthierError) -> dict[str, str]:
    """``response.error``: its codes are few and fixed by the schema."""
    if isinstance(error, TooManyRequests):
        code = "rate_limit_exceeded"
    else:
        code = "invalid_prompt" if isinstance(error, InvalidRequest) else "server_error"
    return {"code": code, "message": error_body(error)["error"]["message"]}


def _obfuscation(delta: str) -> str:
    """Random characters that bring a delta to a multiple of 16: the size of an event then tells less about its text."""
    missing = -len(delta) % _PADDED_CHARACTERS
    return secrets.token_hex(_PADDED_CHARACTERS)[:missing]


class ResponseForm:
    """One response, while it is made."""

    def __init__(self, head: ResponseHead, save: Save) -> None:
        self._head = head
        self._save = save
        self._logprobs = LOGPROBS in (head.body.include or ())
        options = head.body.stream_options
        self._obfuscated = options is None or options.include_obfuscation is not False
        self._pieces: list[str] = []
        self._tokens: list[TokenLogprob] = []
        self._held: tuple[TokenLogprob, ...] = ()
        self._opened = False
        self._number = 0

    def _object(self, status: str, **result: Any) -> dict[str, Any]:
        """The response object; ``result`` replaces what only its end tells."""
        head, body = self._head, self._head.body
        text, reasoning = body.text, body.reasoning
        return {
            "id": head.id,
            "object": "response",
            "created_at": head.created_at,
            "status": status,
            "background": False,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "max_tool_calls": body.max_tool_calls,
            "model": head.model,
            "output": [],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "prompt_cache_key": body.prompt_cache_key,
            "prompt_cache_retention": body.prompt_cache_retention,
            "reasoning": {
                "effort": None if reasoning is None else reasoning.effort,
                "summary": None if reasoning is None else reasoning.summary,
            },
            "safety_identifier": body.safety_identifier,
            "service_tier": "default",
            "store": body.store is not False,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "text": {"format": {"type": "text"}, "verbosity": (text.verbosity if text else None) or "medium"},
            "tool_choice": body.tool_choice or "auto",
            "tools": [_tool(tool) for tool in body.tools or ()],
            "top_logprobs": body.top_logprobs or 0,
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "truncation": body.truncation or "disabled",
            "usage": None,
            "user": body.user,
            "metadata": body.metadata or {},
            **result,
        }

    def _shown(self, tokens: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
        return chat_logprobs(tokens)["content"] if self._logprobs else []

    def _part(self) -> dict[str, Any]:
        text = "".join(self._pieces)
        return {"type": "output_text", "annotations": [], "logprobs": self._shown(self._tokens), "text": text}

    def _message(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self._head.message_id, "type": "message", "status": status, "content": content, "role": "assistant"}

    def _take(self, chunk: TokenChunk) -> TokenChunk | None:
        """The piece of text that this chunk completes. Tokens without text wait for it: they may be those of a call."""
        self._held += chunk.tokens
        if not chunk.text:
            return None
        piece = TokenChunk(text=chunk.text, tokens=self._held)
        self._pieces.append(piece.text)
        self._tokens += piece.tokens
        self._held = ()
        return piece

    def _finished(self, finished: Finished | None) -> dict[str, Any]:
        assert finished is not None, "the engine's last reply is missing"
        called = finished.tool_calls if self._head.body.parallel_tool_calls is not False else finished.tool_calls[:1]
        if called:
            self._held = ()
        self._tokens += self._held
        cut = finished.finish_reason is FinishReason.LENGTH
        messages = []
        if self._pieces or not called:
            messages = [self._message("incomplete" if cut and not called else "completed", [self._part()])]
        return self._object(
            "incomplete" if cut else "completed",
            output=[*messages, *call_items(called)],
            usage=_usage(finished),
            completed_at=None if cut else int(self._head.clock()),
            incomplete_details={"reason": "max_output_tokens"} if cut else None,
        )

    async def whole(self, replies: Replies) -> dict[str, Any]:
        """The response object, once it is kept.

        Raises:
            LuthierError: the generation broke, or the object could not be kept.
        """
        finished: Finished | None = None
        async for _, reply in replies:
            if isinstance(reply, TokenChunk):
                self._take(reply)
            elif isinstance(reply, Finished):
                finished = reply
        response = self._finished(finished)
        await self._save(response)
        return response

    def _in_part(self, kind: str, **fields: Any) -> Event:
        return {"type": kind, "item_id": self._head.message_id, "output_index": 0, "content_index": 0, **fields}

    def _delta(self, text: str, tokens: Sequence[TokenLogprob]) -> Event:
        event = self._in_part("response.output_text.delta", delta=text, logprobs=self._shown(tokens))
        return {**event, "obfuscation": _obfuscation(text)} if self._obfuscated else event

    def _opening(self) -> list[Event]:
        begun = self._object("in_progress")
        return [{"type": "response.created", "response": begun}, {"type": "response.in_progress", "response": begun}]

    def _message_opening(self) -> list[Event]:
        """Told with the first text: an answer may be calls alone."""
        if self._opened:
            return []
        self._opened = True
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
        return [
            {"type": "response.output_item.added", "output_index": 0, "item": self._message("in_progress", [])},
            self._in_part("response.content_part.added", part=part),
        ]

    def _closing(self, response: dict[str, Any]) -> Iterator[Event]:
        for index, item in enumerate(response["output"]):
            if item["type"] == "function_call":
                yield from call_events(item, index, _obfuscation if self._obfuscated else None)
                continue
            yield from self._message_opening()
            if self._logprobs and self._held:
                yield self._delta("", self._held)
            part = item["content"][0]
            yield self._in_part("response.output_text.done", text=part["text"], logprobs=part["logprobs"])
            yield self._in_part("response.content_part.done", part=part)
            yield {"type": "response.output_item.done", "output_index": index, "item": item}

    async def streamed(self, replies: Replies) -> AsyncGenerator[Event, None]:
        """The events in their order. The last one comes when the response is kept, so that the next turn finds it.

        Raises:
            LuthierError: the generation broke, or the object could not be kept.
        """
        for event in self._opening():
            yield event
        finished: Finished | None = None
        async for _, reply in replies:
            if isinstance(reply, TokenChunk) and (piece := self._take(reply)) is not None:
                for event in (*self._message_opening(), self._delta(piece.text, piece.tokens)):
                    yield event
            elif isinstance(reply, Finished):
                finished = reply
        response = self._finished(finished)
        for event in self._closing(response):
            yield event
        await self._save(response)
        yield {"type": f"response.{response['status']}", "response": response}

    def _frame(self, event: Event) -> bytes:
        data = orjson.dumps({**event, "sequence_number": self._number})
        self._number += 1
        return b"event: " + event["type"].encode() + b"\ndata: " + data + b"\n\n"

    def _broken(self, error: LuthierError) -> list[Event]:
        shown = error_body(error)["error"]
        event = {"type": "error", "code": shown["code"] or shown["type"], "message": shown["message"], "param": shown["param"]}
        return [event, {"type": "response.failed", "response": self._object("failed", error=_failure(error))}]

    async def frames(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[bytes, None]:
        """The events as server-sent events with their numbers. An error ends them: ``error``, then ``response.failed``."""
        try:
            async for event in events:
                yield self._frame(event)
        except LuthierError as error:
            for event in self._broken(error):
                yield self._frame(event)
        except Exception:  # noqa: BLE001 - the process edge: the status line is already sent
            _LOG.exception("a stream failed")
            for event in self._broken(LuthierError("")):
                yield self._frame(event)
