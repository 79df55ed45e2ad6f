"""One generation's state, from its prompt to its last token.

What it does: counts tokens, turns them into text, decides when the answer ends and tells its caller. What it does not:
run a model, pick tokens, hold a place in the batch (the scheduler gives slots). Called by ``engine.py``; built by
``deployment/generation.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from luthier.core.engine_messages import EngineReply, Failed, Finished, Started, TokenChunk
from luthier.core.generation import CalledTool, EchoedPrompt, FinishReason, SamplingParams, TokenLogprob, TopToken
from luthier.engine.sampler import Chooser, Pick

# The API's floor for "very unlikely"; minus infinity has no place in JSON.
LOWEST_LOGPROB = -9999.0

Emit = Callable[[EngineReply], None]
"""Takes each reply of one request, in order; the last one is ``Finished`` or ``Failed``."""


@dataclass(frozen=True, slots=True)
class Lane:
    """What may be decoded in one batch: a model in the runner and one of its adapters (None: the base itself)."""

    model: str
    adapter: str | None = None


class TextStream(Protocol):
    """Turns token ids into text that is certain (``chat.stream.StreamDecoder``, ``chat.tool_calls.ToolCallStream``)."""

    @property
    def stopped(self) -> bool:
        """True once a stop string was met."""
        ...

    @property
    def tool_calls(self) -> tuple[CalledTool, ...]:
        """The calls that were taken out of the text; complete after ``finish``."""
        ...

    def push(self, token_id: int) -> str:
        """The text that this token makes certain; may be empty."""
        ...

    def finish(self) -> str:
        """The text held back so far."""
        ...


class TokenNames(Protocol):
    """Names single tokens (``chat.tokenizer.Tokenizer``)."""

    def token_text(self, token_id: int, /) -> str:
        """The token as text."""
        ...

    def token_bytes(self, token_id: int, /) -> bytes:
        """The token as bytes."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """One request under way. ``prompt_ids`` holds at least one token."""

    lane: Lane
    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    max_new_tokens: int
    """0 ends the sequence as soon as it is added."""
    stop_ids: frozenset[int]
    text: TextStream
    names: TokenNames
    emit: Emit
    created_at: float
    """When the request arrived, on the engine's clock, seconds."""
    echo: EchoedPrompt | None = None
    """What ``start`` gives back of the prompt."""
    chooser: Chooser = field(init=False)
    num_generated: int = 0
    last_id: int = -1
    """The newest token: the next input of the model."""
    first_token_at: float | None = None
    finished: bool = False

    def __post_init__(self) -> None:
        self.chooser = Chooser.of(self.sampling)

    def start(self) -> None:
        """Tell the caller that the prompt is being read."""
        self.emit(Started(prompt_tokens=len(self.prompt_ids), echo=self.echo))

    def accept(self, pick: Pick, now: float) -> None:
        """Take the next token; the sequence is ``finished`` afterwards if it was the last one."""
        if self.first_token_at is None:
            self.first_token_at = now
        self.num_generated += 1
        self.last_id = pick.id
        if pick.id in self.stop_ids:
            self._send(self.text.finish(), ())
            self.finish(FinishReason.STOP, now, end_token=None if pick.logprob is None else self._described(pick))
            return
        text = self.text.push(pick.id)
        reason: FinishReason | None = None
        if self.text.stopped:
            reason = FinishReason.STOP
            text += self.text.finish()
        elif self.num_generated >= self.max_new_tokens:
            reason = FinishReason.LENGTH
            text += self.text.finish()
        self._send(text, (self._described(pick),) if pick.logprob is not None else ())
        if reason is not None:
            self.finish(reason, now)

    def finish(self, reason: FinishReason, now: float, *, end_token: TokenLogprob | None = None) -> None:
        """End the sequence and say why; a second call does nothing."""
        if self.finished:
            return
        self.finished = True
        first = self.first_token_at
        self.emit(
            Finished(
                finish_reason=reason,
                prompt_tokens=len(self.prompt_ids),
                completion_tokens=self.num_generated,
                first_token_seconds=0.0 if first is None else first - self.created_at,
                total_seconds=now - self.created_at,
                end_token=end_token,
                tool_calls=self.text.tool_calls,
            )
        )

    def fail(self, failure: Failed) -> None:
        """End the sequence with an error; does nothing after another end."""
        if not self.finished:
            self.finished = True
            self.emit(failure)

    def _send(self, text: str, tokens: tuple[TokenLogprob, ...]) -> None:
        if text or tokens:
            self.emit(TokenChunk(text=text, tokens=tokens))

    def _described(self, pick: Pick) -> TokenLogprob:
        return named(pick, self.names)


def named(pick: Pick, names: TokenNames) -> TokenLogprob:
    """A picked token and its alternatives with their texts."""
    top = tuple(
        TopToken(id=i, text=names.token_text(i), bytes=tuple(names.token_bytes(i)), logprob=max(p, LOWEST_LOGPROB)) for i, p in pick.top
    )
    return TokenLogprob(
        id=pick.id,
        text=names.token_text(pick.id),
        bytes=tuple(names.token_bytes(pick.id)),
        logprob=LOWEST_LOGPROB if pick.logprob is None else max(pick.logprob, LOWEST_LOGPROB),
        top=top,
    )
