"""From the engine's replies to chat completions and text completions, whole or as stream events (reference, 4.2 and 4.4).

What it does: choices, log-probabilities, usage. What it does not: generate, frame events or touch HTTP. Called by
``generations.py`` through ``routes/chat.py`` and ``routes/completions.py``.
"""

import secrets
import string
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from luthier.api.generations import Numbered, Replies
from luthier.core.engine_messages import EngineReply, Finished, Started, TokenChunk
from luthier.core.generation import EchoedPrompt, FinishReason, TokenLogprob
from luthier.core.ids import new_tool_call_id

# What OpenAI answers for a probability that rounds to nothing; JSON has no minus infinity.
LEAST_LOGPROB = -9999.0
# A chunk's text and its padding together fill whole blocks of this many characters.
_OBFUSCATION_BLOCK = 16
_OBFUSCATION_LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What all parts of one answer share."""

    id: str
    created: int
    model: str
    fingerprint: str
    num_choices: int
    """Choices shown per prompt."""
    logprobs: bool
    include_usage: bool = False
    num_candidates: int | None = None
    """Answers generated per prompt, of which the best are shown; None: as many as choices."""
    parallel_tool_calls: bool = True
    """False: only the first tool call of an answer is given."""
    deprecated_functions: bool = False
    """The request offered ``functions``: an answer's first call stands in ``function_call``."""
    obfuscated: bool = False
    """Chunks of chat streams are padded, so that their sizes tell less of their texts."""

    @property
    def per_prompt(self) -> int:
        """Answers generated per prompt: they count its tokens once."""
        return self.num_candidates or self.num_choices


def usage(finished: Sequence[tuple[int, Finished]], per_prompt: int) -> dict[str, Any]:
    """Token counts of one call; a prompt counts once however many answers it has, and answers that are not shown count too."""
    prompts = {index // per_prompt: reply.prompt_tokens for index, reply in finished}
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


def completion_logprobs(tokens: Sequence[TokenLogprob], offsets: Sequence[int], *, from_start: bool = False) -> dict[str, Any]:
    """``logprobs`` of a text choice; ``from_start``: the first token begins an echoed prompt and has no probability."""
    logprobs: list[float | None] = [max(token.logprob, LEAST_LOGPROB) for token in tokens]
    top: list[dict[str, float] | None] = [{t.text: max(t.logprob, LEAST_LOGPROB) for t in token.top} for token in tokens]
    if from_start and tokens:
        logprobs[0] = top[0] = None
    return {"tokens": [token.text for token in tokens], "token_logprobs": logprobs, "top_logprobs": top, "text_offset": list(offsets)}


@dataclass(slots=True)
class _Choice:
    """One answer while its replies come in."""

    pieces: list[str] = field(default_factory=list)
    tokens: list[TokenLogprob] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    length: int = 0
    echo: EchoedPrompt | None = None
    finished: Finished | None = None

    def take(self, reply: EngineReply) -> None:
        if isinstance(reply, Started) and reply.echo is not None:
            self.echo = reply.echo
            self.length = len(reply.echo.text)
        elif isinstance(reply, TokenChunk):
            self.offsets += token_offsets(reply.tokens, self.length)
            self.tokens += reply.tokens
            self.pieces.append(reply.text)
            self.length += len(reply.text)
        elif isinstance(reply, Finished):
            self.finished = reply

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def mean_logprob(self) -> float:
        """Mean log-probability of the answer's tokens, the end token counted; what ``best_of`` compares."""
        end = None if self.finished is None else self.finished.end_token
        logprobs = [token.logprob for token in (*self.tokens, *(() if end is None else (end,)))]
        return sum(logprobs) / len(logprobs) if logprobs else 0.0


def _gather(replies: Sequence[Numbered]) -> tuple[list[_Choice], list[tuple[int, Finished]]]:
    choices: dict[int, _Choice] = {}
    for index, reply in replies:
        choices.setdefault(index, _Choice()).take(reply)
    ordered = [choices[index] for index in sorted(choices)]
    return ordered, [(i, c.finished) for i, c in enumerate(ordered) if c.finished is not None]


def _reason(finished: Finished | None) -> str | None:
    if finished is None:
        return None
    if finished.tool_calls and finished.finish_reason is FinishReason.STOP:
        return "tool_calls"
    return finished.finish_reason.value


def _padding(text: str) -> str:
    """Random characters that fill the last block of a chunk's text."""
    return "".join(secrets.choice(_OBFUSCATION_LETTERS) for _ in range(_OBFUSCATION_BLOCK - len(text) % _OBFUSCATION_BLOCK))


class ChatForm:
    """Chat completions. The whole and the streamed form of one answer name its tool calls alike."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._call_ids: dict[tuple[int, int], str] = {}

    def _tool_calls(self, index: int, finished: Finished | None) -> list[dict[str, Any]]:
        calls = () if finished is None else finished.tool_calls
        shown = calls if self._head.parallel_tool_calls else calls[:1]
        return [
            {
                "id": self._call_ids.setdefault((index, number), new_tool_call_id()),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for number, call in enumerate(shown)
        ]

    def _called(self, index: int, finished: Finished | None) -> dict[str, Any]:
        """The message's field that has the calls; empty without any."""
        calls = self._tool_calls(index, finished)
        if not calls:
            return {}
        return {"function_call": calls[0]["function"]} if self._head.deprecated_functions else {"tool_calls": calls}

    def _message(self, index: int, choice: _Choice) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None, "annotations": []}
        called = self._called(index, choice.finished)
        return {**message, "content": choice.text or None, **called} if called else message

    def _reason(self, finished: Finished | None) -> str | None:
        reason = _reason(finished)
        return "function_call" if reason == "tool_calls" and self._head.deprecated_functions else reason

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
                "message": self._message(index, choice),
                "logprobs": chat_logprobs(choice.tokens) if self._head.logprobs else None,
                "finish_reason": self._reason(choice.finished),
            }
            for index, choice in enumerate(choices)
        ]
        return {**self._envelope("chat.completion"), "choices": shown, "usage": usage(finished, self._head.per_prompt)}

    def _chunk(
        self, index: int, delta: dict[str, Any], *, logprobs: dict[str, Any] | None = None, reason: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        chunk = {**self._envelope("chat.completion.chunk"), "choices": [choice]}
        if self._head.obfuscated:
            chunk["obfuscation"] = _padding(delta.get("content") or "")
        return {**chunk, "usage": None} if self._head.include_usage else chunk

    def _call_deltas(self, index: int, finished: Finished) -> Iterator[dict[str, Any]]:
        """Each call as upstream sends it: first its id and name, then its arguments."""
        if self._head.deprecated_functions:
            for call in self._tool_calls(index, finished)[:1]:
                yield {"function_call": {"name": call["function"]["name"], "arguments": ""}}
                yield {"function_call": {"arguments": call["function"]["arguments"]}}
            return
        for number, call in enumerate(self._tool_calls(index, finished)):
            function = call["function"]
            yield {"tool_calls": [{"index": number, **call, "function": {"name": function["name"], "arguments": ""}}]}
            yield {"tool_calls": [{"index": number, "function": {"arguments": function["arguments"]}}]}

    async def streamed(self, replies: Replies) -> AsyncGenerator[dict[str, Any], None]:
        """``chat.completion.chunk`` objects: role, pieces, tool calls, end; then usage when asked for."""
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
                for delta in self._call_deltas(index, reply):
                    yield self._chunk(index, delta)
                yield self._chunk(index, {}, reason=self._reason(reply))
        if self._head.include_usage:
            counts = usage(finished, self._head.per_prompt)
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

    def _shown(self, choices: Sequence[_Choice]) -> list[_Choice]:
        """The best choices of each prompt, by mean log-probability; all, in their order, when there are no more than asked for."""
        head = self._head
        if head.per_prompt == head.num_choices:
            return list(choices)
        prompts = [choices[start : start + head.per_prompt] for start in range(0, len(choices), head.per_prompt)]
        return [c for prompt in prompts for c in sorted(prompt, key=lambda c: c.mean_logprob, reverse=True)[: head.num_choices]]

    def _logprobs(self, choice: _Choice) -> dict[str, Any] | None:
        if not self._head.logprobs:
            return None
        echoed = choice.echo.tokens if choice.echo is not None else ()
        offsets = [*token_offsets(echoed, 0), *choice.offsets]
        return completion_logprobs([*echoed, *choice.tokens], offsets, from_start=bool(echoed))

    def whole(self, replies: Sequence[Numbered]) -> dict[str, Any]:
        """The ``text_completion`` object."""
        choices, finished = _gather(replies)
        shown = [
            {
                "text": ("" if choice.echo is None else choice.echo.text) + choice.text,
                "index": index,
                "logprobs": self._logprobs(choice),
                "finish_reason": _reason(choice.finished),
            }
            for index, choice in enumerate(self._shown(choices))
        ]
        return {**self._envelope(), "choices": shown, "usage": usage(finished, self._head.per_prompt)}

    def _event(self, index: int, text: str, *, logprobs: dict[str, Any] | None = None, reason: str | None = None) -> dict[str, Any]:
        event = {**self._envelope(), "choices": [{"text": text, "index": index, "logprobs": logprobs, "finish_reason": reason}]}
        return {**event, "usage": None} if self._head.include_usage else event

    def _echo_event(self, index: int, echo: EchoedPrompt) -> dict[str, Any]:
        logprobs = completion_logprobs(echo.tokens, token_offsets(echo.tokens, 0), from_start=True) if self._head.logprobs else None
        return self._event(index, echo.text, logprobs=logprobs)

    async def streamed(self, replies: Replies) -> AsyncGenerator[dict[str, Any], None]:
        """``text_completion`` objects: the prompt when it is echoed, pieces, end; then usage when asked for."""
        lengths: dict[int, int] = {}
        finished: list[tuple[int, Finished]] = []
        async for index, reply in replies:
            length = lengths.get(index, 0)
            if isinstance(reply, Started) and reply.echo is not None:
                lengths[index] = len(reply.echo.text)
                yield self._echo_event(index, reply.echo)
            elif isinstance(reply, TokenChunk) and (reply.text or (self._head.logprobs and reply.tokens)):
                logprobs = completion_logprobs(reply.tokens, token_offsets(reply.tokens, length)) if self._head.logprobs else None
                lengths[index] = length + len(reply.text)
                yield self._event(index, reply.text, logprobs=logprobs)
            elif isinstance(reply, Finished):
                finished.append((index, reply))
                yield self._event(index, "", reason=reply.finish_reason.value)
        if self._head.include_usage:
            yield {**self._envelope(), "choices": [], "usage": usage(finished, self._head.per_prompt)}
