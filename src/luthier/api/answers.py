"""From the engine's replies to chat completions and text completions, whole or as stream events (reference, 4.2 and 4.4).

What it does: choices, log-probabilities, usage. What it does not: generate, frame events or touch HTTP. Called by
``generations.py`` through ``routes/chat.py`` and ``routes/completions.py``.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from luthier.api.generations import Numbered, Replies
from luthier.core.engine_messages import EngineReply, Finished, TokenChunk
from luthier.core.generation import TokenLogprob

# What OpenAI answers for a probability that rounds to nothing; JSON has no minus infinity.
LEAST_LOGPROB = -9999.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What all parts of one answer share."""

    id: str
    created: int
    model: str
    fingerprint: str
    num_choices: int
    """Choices per prompt: those of one prompt count its tokens once."""
    logprobs: bool
    include_usage: bool = False
    echoed: tuple[str, ...] = ()
    """Per choice, the prompt that is given back before the answer."""


def usage(finished: Sequence[tuple[int, Finished]], num_choices: int) -> dict[str, Any]:
    """Token counts of one call; a prompt counts once however many choices it has."""
    prompts = {index // num_choices: reply.prompt_tokens for index, reply in finished}
    prompt_tokens = sum(prompts.values())
    completion_tokens = sum(reply.completion_tokens for _, reply in finished)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _chat_token(token: TokenLogprob) -> dict[str, Any]:
    return {
        "token": token.text,
        "logprob": max(token.logprob, LEAST_LOGPROB),
        "bytes": list(token.bytes),
        "top_logprobs": [{"token": t.text, "logprob": max(t.logprob, LEAST_LOGPROB), "bytes": list(t.bytes)} for t in token.top],
    }


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """``logprobs`` of a chat choice."""
    return {"content": [_chat_token(token) for token in tokens], "refusal": None}


def token_offsets(tokens: Sequence[TokenLogprob], start: int) -> list[int]:
    """Where the tokens of one piece begin in the answer's text, whose length before the piece is ``start``."""
    offsets: list[int] = []
    for token in tokens:
        offsets.append(start)
        start += len(token.text)
    return offsets


def completion_logprobs(tokens: Sequence[TokenLogprob], offsets: Sequence[int]) -> dict[str, Any]:
    """``logprobs`` of a text choice."""
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [max(token.logprob, LEAST_LOGPROB) for token in tokens],
        "top_logprobs": [{t.text: max(t.logprob, LEAST_LOGPROB) for t in token.top} for token in tokens],
        "text_offset": list(offsets),
    }


@dataclass(slots=True)
class _Choice:
    """One answer while its replies come in."""

    pieces: list[str] = field(default_factory=list)
    tokens: list[TokenLogprob] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    length: int = 0
    finished: Finished | None = None

    def take(self, reply: EngineReply) -> None:
        if isinstance(reply, TokenChunk):
            self.offsets += token_offsets(reply.tokens, self.length)
            self.tokens += reply.tokens
            self.pieces.append(reply.text)
            self.length += len(reply.text)
        elif isinstance(reply, Finished):
            self.finished = reply

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def _gather(replies: Sequence[Numbered]) -> tuple[list[_Choice], list[tuple[int, Finished]]]:
    choices: dict[int, _Choice] = {}
    for index, reply in replies:
        choices.setdefault(index, _Choice()).take(reply)
    ordered = [choices[index] for index in sorted(choices)]
    return ordered, [(i, c.finished) for i, c in enumerate(ordered) if c.finished is not None]


def _reason(finished: Finished | None) -> str | None:
    return None if finished is None else finished.finish_reason.value


class ChatForm:
    """Chat completions."""

    def __init__(self, head: Head) -> None:
        self._head = head

    def _envelope(self, kind: str) -> dict[str, Any]:
        head = self._head
        return {
            "id": head.id,
            "object": kind,
            "created": head.created,
            "model": head.model,
            "service_tier": "default",
            "system_fingerprint": head.fingerprint,
        }

    def whole(self, replies: Sequence[Numbered]) -> dict[str, Any]:
        """The ``chat.completion`` object."""
        choices, finished = _gather(replies)
        shown = [
            {
                "index": index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None, "annotations": []},
                "logprobs": chat_logprobs(choice.tokens) if self._head.logprobs else None,
                "finish_reason": _reason(choice.finished),
            }
            for index, choice in enumerate(choices)
        ]
        return {**self._envelope("chat.completion"), "choices": shown, "usage": usage(finished, self._head.num_choices)}

    def _chunk(
        self, index: int, delta: dict[str, Any], *, logprobs: dict[str, Any] | None = None, reason: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        chunk = {**self._envelope("chat.completion.chunk"), "choices": [choice]}
        return {**chunk, "usage": None} if self._head.include_usage else chunk

    async def streamed(self, replies: Replies) -> AsyncGenerator[dict[str, Any], None]:
        """``chat.completion.chunk`` objects: role, pieces, end; then usage when asked for."""
        started: set[int] = set()
        finished: list[tuple[int, Finished]] = []
        async for index, reply in replies:
            if index not in started:
                started.add(index)
                yield self._chunk(index, {"role": "assistant", "content": "", "refusal": None})
            if isinstance(reply, TokenChunk) and (reply.text or (self._head.logprobs and reply.tokens)):
                logprobs = chat_logprobs(reply.tokens) if self._head.logprobs else None
                yield self._chunk(index, {"content": reply.text}, logprobs=logprobs)
            elif isinstance(reply, Finished):
                finished.append((index, reply))
                yield self._chunk(index, {}, reason=reply.finish_reason.value)
        if self._head.include_usage:
            counts = usage(finished, self._head.num_choices)
            yield {**self._envelope("chat.completion.chunk"), "choices": [], "usage": counts}


class CompletionForm:
    """Text completions. Stream events have the same shape as the whole answer."""

    def __init__(self, head: Head) -> None:
        self._head = head

    def _envelope(self) -> dict[str, Any]:
        head = self._head
        return {
            "id": head.id,
            "object": "text_completion",
            "created": head.created,
            "model": head.model,
            "system_fingerprint": head.fingerprint,
        }

    def _echo(self, index: int) -> str:
        return self._head.echoed[index] if self._head.echoed else ""

    def whole(self, replies: Sequence[Numbered]) -> dict[str, Any]:
        """The ``text_completion`` object."""
        choices, finished = _gather(replies)
        shown = [
            {
                "text": self._echo(index) + choice.text,
                "index": index,
                "logprobs": completion_logprobs(choice.tokens, choice.offsets) if self._head.logprobs else None,
                "finish_reason": _reason(choice.finished),
            }
            for index, choice in enumerate(choices)
        ]
        return {**self._envelope(), "choices": shown, "usage": usage(finished, self._head.num_choices)}

    def _event(self, index: int, text: str, *, logprobs: dict[str, Any] | None = None, reason: str | None = None) -> dict[str, Any]:
        event = {**self._envelope(), "choices": [{"text": text, "index": index, "logprobs": logprobs, "finish_reason": reason}]}
        return {**event, "usage": None} if self._head.include_usage else event

    async def streamed(self, replies: Replies) -> AsyncGenerator[dict[str, Any], None]:
        """``text_completion`` objects: pieces, end; then usage when asked for."""
        lengths: dict[int, int] = {}
        finished: list[tuple[int, Finished]] = []
        async for index, reply in replies:
            if index not in lengths:
                lengths[index] = 0
                if self._echo(index):
                    yield self._event(index, self._echo(index))
            if isinstance(reply, TokenChunk) and (reply.text or (self._head.logprobs and reply.tokens)):
                offsets = token_offsets(reply.tokens, lengths[index])
                logprobs = completion_logprobs(reply.tokens, offsets) if self._head.logprobs else None
                lengths[index] += len(reply.text)
                yield self._event(index, reply.text, logprobs=logprobs)
            elif isinstance(reply, Finished):
                finished.append((index, reply))
                yield self._event(index, "", reason=reply.finish_reason.value)
        if self._head.include_usage:
            yield {**self._envelope(), "choices": [], "usage": usage(finished, self._head.num_choices)}
