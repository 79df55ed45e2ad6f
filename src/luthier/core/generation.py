"""Generation: what is asked of the engine and what comes back. Shared by api, engine, evaluation and deployment."""

from dataclasses import dataclass
from enum import StrEnum


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"
    """The model's end token, or a stop string."""
    LENGTH = "length"
    """The token limit."""
    ABORTED = "aborted"
    """The caller went away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How tokens are picked. Bounds are the API's and are checked at its door."""

    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    max_tokens: int | None = None
    """None: as many as the context allows."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer; not part of it."""
    seed: int | None = None
    """None: drawn by the engine."""
    top_logprobs: int | None = None
    """None: no log-probabilities; 0 to 20 alternatives per token otherwise."""
    frequency_penalty: float = 0.0
    """Taken off a token's logit once for each time the answer already holds it."""
    presence_penalty: float = 0.0
    """Taken off a token's logit once when the answer already holds it."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token ids and what is added to their logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopToken:
    """One alternative at a position."""

    id: int
    text: str
    bytes: tuple[int, ...]
    logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """One token with its log-probability and the alternatives, best first. They are the model's own: natural log, at temperature 1,
    before any penalty or bias."""

    id: int
    text: str
    bytes: tuple[int, ...]
    logprob: float
    top: tuple[TopToken, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledTool:
    """A tool call that the model wrote."""

    name: str
    arguments: str
    """JSON text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoedPrompt:
    """A prompt as the model read it, given back for scoring."""

    text: str
    tokens: tuple[TokenLogprob, ...] = ()
    """The prompt's own tokens, template marks left out, when log-probabilities were asked for. The first one's
    probability is never shown: where nothing stands before it, its ``logprob`` is 0 and means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTarget:
    """A model as the engine host needs it: resolved paths, no database."""

    name: str
    """The public name; the key of the host's cache together with ``revision``."""
    base_path: str
    """Absolute folder of the base model, or of the complete tuned weights."""
    adapter_path: str | None = None
    """Absolute folder of a PEFT adapter, or None."""
    row_format: str = "chat"
    """How a bare prompt is rendered (see ``core.examples.RowFormat``)."""
    revision: str = ""
    """Manifest hash: a new one under the same name is loaded anew."""
