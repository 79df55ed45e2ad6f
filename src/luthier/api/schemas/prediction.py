"""The body of ``POST /v1/luthier/trace``, and the shape of its answer."""

from typing import Annotated, Literal

from pydantic import Field

from luthier.api.schemas.chat import Messages
from luthier.api.schemas.fields import ModelName, WireModel
from luthier.api.schemas.objects import RenderedToken, Shape
from luthier.core.prediction import MAX_ANSWER_TOKENS

_TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
Tier = Literal["A", "B", "C"]


class TraceRequest(WireModel):
    """Trace one prediction. Exactly one of ``messages`` and ``prompt``."""

    model: ModelName
    base: ModelName | None = None
    """The model to compare with; null: the tuned model's own base."""
    messages: Messages | None = None
    prompt: Annotated[str, Field(max_length=100_000)] | None = None
    """A bare prompt, rendered as the rows of the model's training file were."""
    max_tokens: Annotated[int, Field(ge=1, le=MAX_ANSWER_TOKENS)] = MAX_ANSWER_TOKENS
    tiers: Annotated[list[Tier], Field(min_length=1, max_length=3)] | None = None
    """Null: A and B. A: tokens, probabilities, path. B: embedding, layers, adapter. C: attention of one layer."""
    layer: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """The layer of tier C, from 0; null: the last."""
    token: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """The place in the prompt whose nearest neighbours in the vocabulary are wanted (tier B)."""
    path: Annotated[list[_TokenId], Field(max_length=MAX_ANSWER_TOKENS)] | None = None
    """Token ids that the answers begin with: a side branch."""
    answer: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None
    """A text to read through both models instead of the tuned model's own answer."""
    nearest: bool = False
    """Find the training rows most like the prompt."""


class TraceAlternative(Shape):
    """A candidate for one place."""

    id: int
    token: str
    probability: float
    logprob: float


class TraceStep(Shape):
    """One generated token; ``rank`` counts from 1, ``entropy`` is in nats."""

    id: int
    token: str
    probability: float
    logprob: float | None
    rank: int
    entropy: float
    forced: bool
    end: bool
    top: list[TraceAlternative]


class TraceSide(Shape):
    """One model's greedy answer."""

    answer: str
    finish_reason: Literal["stop", "length"]
    path: list[TraceStep]


class TraceForcedToken(Shape):
    """A token of an answer under both models."""

    id: int
    text: str
    tuned_logprob: float | None
    base_logprob: float | None
    change: float | None


class TraceForced(Shape):
    """An answer read through both models."""

    source: Literal["tuned", "answer"]
    tokens: list[TraceForcedToken]


class TraceNeighbour(Shape):
    """A token of the vocabulary with a similar embedding."""

    id: int
    token: str
    cosine: float


class TraceEmbedding(Shape):
    """L2 norms of the prompt's tokens, and the neighbours of one."""

    norms: list[float]
    token: int | None
    neighbours: list[TraceNeighbour] | None


class TraceSequenceToken(Shape):
    """A token of prompt and answer."""

    id: int
    token: str


class TraceLayerSide(Shape):
    """The logit lens and the updates of one model's blocks."""

    top: list[list[int]]
    probability: list[list[float | None]]
    settled: list[int]
    appears: list[int | None]
    residual_norm: list[float | None]
    attention_norm: list[float | None] | None
    mlp_norm: list[float | None] | None
    attention_share: list[float | None] | None


class TraceLayers(Shape):
    """Layer x position, of both models over the same tokens."""

    count: int
    positions: list[int]
    sequence: list[TraceSequenceToken]
    targets: list[int | None]
    tokens: dict[str, str]
    tuned: TraceLayerSide
    base: TraceLayerSide | None


class TraceAdapterChange(Shape):
    """How much the adapter changes one matrix, relative to it."""

    layer: int | None
    module: str
    relative_change: float | None


class TraceAttention(Shape):
    """Where one block of the tuned model looks; a row ends at its query."""

    layer: int
    heads: int
    keys: int
    queries: list[int]
    mean: list[list[float]]
    per_head_queries: list[int]
    per_head: list[list[list[float]]]


class TraceNearestRow(Shape):
    """A training row with similar words: similar, not proof."""

    line: int
    similarity: float
    shared: list[str]
    prompt: str
    answer: str


class TraceShifted(TraceForcedToken):
    """One of the most shifted tokens; ``index`` is its place in the answer."""

    index: int


class TraceFirstLayer(Shape):
    """The first layer at which a token of the answer is on top; null where it never is."""

    index: int
    id: int
    text: str
    tuned_layer: int | None
    base_layer: int | None


class TraceWhy(Shape):
    """What tuning moved, and where in the depth the answer appears."""

    most_shifted: list[TraceShifted]
    first_layers: list[TraceFirstLayer]


class TraceMissing(Shape):
    """A part that this trace does not have, and why."""

    tier: Literal["A", "B", "C", "nearest"]
    reason: str


class PredictionTraceObject(Shape):
    """One prediction, base beside tuned; what was not measured is null and told in ``missing``."""

    object: Literal["luthier.prediction_trace"]
    model: str
    base: str | None
    prompt_tokens: list[RenderedToken]
    tuned: TraceSide | None
    base_side: TraceSide | None
    forced: TraceForced | None
    embedding: TraceEmbedding | None
    layers: TraceLayers | None
    adapter: list[TraceAdapterChange] | None
    attention: TraceAttention | None
    nearest: list[TraceNearestRow] | None
    why: TraceWhy | None
    missing: list[TraceMissing]
    seconds: float
