"""Messages between the engine host and its callers (api, worker): one JSON object per line over a Unix socket.

One connection carries one request and its replies; a closed connection aborts what runs for it. The first line is an
``Envelope``-shaped request with the socket's secret; the last reply is ``Finished``, ``Failed`` or the request's own reply.
What this module does not do: open sockets. Called by ``api/engine_client.py``, ``worker/engine_link.py`` and
``deployment/host.py``.
"""

import hmac
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from luthier.core.errors import AuthenticationFailed, InvalidRequest
from luthier.core.generation import CalledTool, EchoedPrompt, FinishReason, ModelTarget, SamplingParams, TokenLogprob, TopToken

MAX_LINE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Generate one answer. Exactly one of ``messages``, ``prompt`` and ``token_ids`` is given."""

    target: ModelTarget
    sampling: SamplingParams
    messages: tuple[dict[str, Any], ...] | None = None
    tools: tuple[dict[str, Any], ...] = ()
    prompt: str | None = None
    """For ``/completions``: rendered as the target's ``row_format`` says."""
    token_ids: tuple[int, ...] | None = None
    parse_tool_calls: bool = False
    """Take tool calls in the model's own form out of the text and tell them in ``Finished``."""
    echo: bool = False
    """Give the prompt back in ``Started``, scored when the sampling asks for log-probabilities. Not with ``messages``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Load a model and generate one token, so that the first caller finds it warm."""

    target: ModelTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class Unload:
    """Forget a deleted model."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Render:
    """Show how a conversation becomes tokens."""

    target: ModelTarget
    messages: tuple[dict[str, Any], ...]
    add_generation_prompt: bool = True
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Measure loss and token accuracy of the assistant tokens of each conversation."""

    target: ModelTarget
    conversations: tuple[tuple[dict[str, Any], ...], ...]
    max_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TracePrediction:
    """Measure one prediction in its layers (``core/prediction.py``). Exactly one of ``messages`` and ``prompt`` is given."""

    target: ModelTarget
    base: ModelTarget | None
    """The model to compare with."""
    messages: tuple[dict[str, Any], ...] | None = None
    prompt: str | None = None
    """Rendered as the target's ``row_format`` says."""
    max_tokens: int
    tiers: tuple[str, ...]
    layer: int | None = None
    """Whose attention is told (tier C); None: the last one's."""
    token: int | None = None
    """The place in the prompt whose neighbours in the vocabulary are wanted (tier B)."""
    path: tuple[int, ...] = ()
    """Token ids that the answers begin with."""
    answer: str | None = None
    """A text that is read through both models instead of the tuned model's own answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Ask how the host is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The prompt is rendered and admitted."""

    prompt_tokens: int
    echo: EchoedPrompt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenChunk:
    """A piece of the answer. ``text`` may be empty while a character or a stop string is incomplete."""

    text: str
    tokens: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The answer is complete."""

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    """Generated tokens, the end token counted."""
    first_token_seconds: float
    total_seconds: float
    end_token: TokenLogprob | None = None
    """The end token and its alternatives, when log-probabilities were asked for and the model ended the answer itself."""
    tool_calls: tuple[CalledTool, ...] = ()
    """Only when the request asked to parse them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The request was refused or broke. ``kind`` is the name of a class in ``core/errors.py``."""

    kind: str
    message: str
    code: str | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The model answers."""

    bytes: int
    """Size of what was read: the adapter's files, or the whole model's."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedTokens:
    """One entry per token: ``id``, ``text``, ``bytes``, ``kind`` (core.tokens.TokenKind), ``role``, ``message``."""

    tokens: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One entry per conversation: ``loss_sum`` (nats), ``num_tokens`` (trained), ``num_correct`` (greedy hits)."""

    entries: tuple[dict[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionTrace:
    """What was measured, in the form that ``core/prediction.py`` tells."""

    text: str
    """JSON: written once, where the size of it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatus:
    """The host is up."""

    loaded: tuple[str, ...]
    """Names of loaded models."""
    active: int
    """Generations under way."""
    resident_bytes: int
    num_threads: int
    uptime_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The request was carried out."""


EngineRequest = Generate | Load | Unload | Render | Score | TracePrediction | Status
EngineReply = Started | TokenChunk | Finished | Failed | Loaded | RenderedTokens | Scores | PredictionTrace | HostStatus | Done
_TERMINAL = (Finished, Failed, Loaded, RenderedTokens, Scores, PredictionTrace, HostStatus, Done)


def is_last(reply: EngineReply) -> bool:
    """True when no further reply follows on the connection."""
    return isinstance(reply, _TERMINAL)


def _tuples(plain: dict[str, Any], *names: str) -> dict[str, Any]:
    return {k: tuple(v) if k in names and v is not None else v for k, v in plain.items()}


def _target(plain: dict[str, Any]) -> dict[str, Any]:
    return {**plain, "target": ModelTarget(**plain["target"])}


def _generate(plain: dict[str, Any]) -> Generate:
    fields = _tuples(plain["sampling"], "stop")
    sampling = SamplingParams(**{**fields, "logit_bias": tuple((int(i), float(bias)) for i, bias in fields.get("logit_bias", ()))})
    return Generate(**{**_target(_tuples(plain, "messages", "tools", "token_ids")), "sampling": sampling})


def _trace_prediction(plain: dict[str, Any]) -> TracePrediction:
    base = plain["base"]
    fields = _target(_tuples(plain, "messages", "tiers", "path"))
    return TracePrediction(**{**fields, "base": None if base is None else ModelTarget(**base)})


def _token(plain: dict[str, Any]) -> TokenLogprob:
    top = tuple(TopToken(**_tuples(t, "bytes")) for t in plain["top"])
    return TokenLogprob(**{**_tuples(plain, "bytes"), "top": top})


def _finished(plain: dict[str, Any]) -> Finished:
    end = plain["end_token"]
    parsed = {
        "finish_reason": FinishReason(plain["finish_reason"]),
        "end_token": None if end is None else _token(end),
        "tool_calls": tuple(CalledTool(**call) for call in plain["tool_calls"]),
    }
    return Finished(**{**plain, **parsed})


def _started(plain: dict[str, Any]) -> Started:
    echo = plain["echo"]
    if echo is not None:
        echo = EchoedPrompt(text=echo["text"], tokens=tuple(_token(t) for t in echo["tokens"]))
    return Started(prompt_tokens=plain["prompt_tokens"], echo=echo)


_BUILDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "Generate": _generate,
    "Load": lambda p: Load(**_target(p)),
    "Unload": lambda p: Unload(**p),
    "Render": lambda p: Render(**_target(_tuples(p, "messages", "tools"))),
    "Score": lambda p: Score(**{**_target(p), "conversations": tuple(tuple(c) for c in p["conversations"])}),
    "TracePrediction": _trace_prediction,
    "Status": lambda p: Status(**p),
    "Started": _started,
    "TokenChunk": lambda p: TokenChunk(text=p["text"], tokens=tuple(_token(t) for t in p["tokens"])),
    "Finished": _finished,
    "Failed": lambda p: Failed(**p),
    "Loaded": lambda p: Loaded(**p),
    "RenderedTokens": lambda p: RenderedTokens(tokens=tuple(p["tokens"])),
    "Scores": lambda p: Scores(entries=tuple(p["entries"])),
    "PredictionTrace": lambda p: PredictionTrace(**p),
    "HostStatus": lambda p: HostStatus(**_tuples(p, "loaded")),
    "Done": lambda p: Done(**p),
}


def encode(message: EngineRequest | EngineReply, *, secret: str | None = None) -> bytes:
    """One line of JSON, newline included. Requests carry the socket's secret."""
    plain: dict[str, Any] = {"type": type(message).__name__, "body": asdict(message)}
    if secret is not None:
        plain["secret"] = secret
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"


def decode(line: bytes) -> Any:
    """The message of one line (an ``EngineRequest`` or an ``EngineReply``)."""
    plain = json.loads(line)
    return _BUILDERS[plain["type"]](plain["body"])


def decode_request(line: bytes, secret: str) -> EngineRequest:
    """The request of one line.

    Raises:
        AuthenticationFailed: the secret is wrong; nothing else of the line was looked at.
        InvalidRequest: the line is no known request.
    """
    try:
        plain = json.loads(line)
        given = plain.get("secret")
    except (ValueError, AttributeError) as error:
        raise InvalidRequest("The request is not a JSON object.") from error
    if not isinstance(given, str) or not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), secret.encode()):
        raise AuthenticationFailed("The engine's secret is wrong.")
    try:
        message = _BUILDERS[plain["type"]](plain["body"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidRequest("The request has an unknown type or wrong fields.") from error
    if not isinstance(message, EngineRequest):
        raise InvalidRequest("The message is a reply, not a request.")
    return message


class EnginePort(Protocol):
    """What a stage needs of the engine host; ``worker/engine_link.py`` is the real one, tests bring scripted ones.

    Both calls block, may be made from several threads at once, and raise the ``core.errors`` class that a ``Failed`` names.
    """

    def request(self, message: EngineRequest, *, timeout_seconds: float = 600.0) -> EngineReply:
        """Send one message that has a single reply, and return it."""
        ...

    def generate(self, message: Generate) -> tuple[str, list[TokenLogprob], Finished]:
        """Generate one answer: its text, its tokens (when log-probabilities were asked for) and how it ended."""
        ...
