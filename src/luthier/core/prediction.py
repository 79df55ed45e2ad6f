"""The prediction trace: one real prediction in five layers, base beside tuned. The nouns and the JSON shape; computes nothing.

Made by ``engine`` and ``deployment/tracing.py``, sent as ``POST /v1/luthier/trace`` answers, drawn by dashboard and terminal. Every
number was measured for this very request; what was not measured is null, and a line of ``missing`` says why. All logarithms are
natural, all probabilities are at temperature 1 before any bias; layers count from 0 and mean "after block i".

::

    {"object": "luthier.prediction_trace",
     "model": str, "base": str | null,
     "prompt_tokens": [{"id", "text", "bytes": [int], "kind": "context"|"special"|"trained", "role": str, "message": int}],
     "tuned": Side, "base_side": Side | null,
     "forced": {"source": "tuned" | "answer",              the tuned model's own answer, or the text that was sent
                "tokens": [{"id", "text", "tuned_logprob", "base_logprob": float|null, "change": float|null}]} | null,
                                                           change = tuned - base, nats
     "embedding": {"norms": [float per prompt token],      L2 norm of the vector that enters the first block
                   "token": int | null, "neighbours": [{"id", "token", "cosine"}] | null} | null,
     "layers": {"count": int,                              blocks of the model
                "positions": [int],                        P places of prompt + answer; place p predicts token p + 1
                "sequence": [{"id", "token"} per place of prompt + answer],
                "targets": [int | null],                   the id that really follows each of them; null after the last
                "tokens": {"ID": text},                    of every id in ``top``
                "tuned": LayerSide, "base": LayerSide | null} | null,
     "adapter": [{"layer": int | null, "module": str, "relative_change": float}] | null,   ||W' - W||_F / ||W||_F
     "attention": {"layer": int, "heads": int, "keys": int,     of the tuned model; keys are the places of prompt + answer
                   "queries": [int], "mean": [[float per key up to and with the query] per query],
                   "per_head_queries": [int], "per_head": [[[float per key] per query] per head]} | null,
     "nearest": [{"line": int, "similarity": float, "shared": [str], "prompt": str, "answer": str}] | null,
     "why": {"most_shifted": [{"index", "id", "text", "tuned_logprob", "base_logprob", "change"}],      by |change|, at most 5
             "first_layers": [{"index", "id", "text", "tuned_layer": int|null, "base_layer": int|null}]} | null,
     "missing": [{"tier": "A"|"B"|"C"|"nearest", "reason": str}],
     "seconds": float}

    Side = {"answer": str, "finish_reason": "stop" | "length",
            "path": [{"id", "token", "probability", "logprob", "rank": int from 1, "entropy": nats,
                      "forced": bool,                      chosen by the caller (``path`` of the request)
                      "end": bool,                         the token that ends the answer; not in ``answer``
                      "top": [{"id", "token", "probability", "logprob"} at most 20, best first]}]}
    LayerSide = {"top": [[id per position] per layer], "probability": [[float per position] per layer],   the logit lens
                 "settled": [int per position],            first layer from which the final token stays on top
                 "appears": [int | null per position],     first layer at which the target is on top
                 "residual_norm": [float per layer],       mean L2 norm over the positions, of what leaves the block
                 "attention_norm": [float per layer] | null, "mlp_norm": [float per layer] | null,         of the two updates
                 "attention_share": [float per layer] | null}    attention_norm / (attention_norm + mlp_norm)

The lens is Nostalgebraist's (2020): the model's own final norm and head, applied to what leaves each block.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

MAX_PROMPT_TOKENS = 256
MAX_ANSWER_TOKENS = 64
ALTERNATIVES = 20
MAX_REPLY_BYTES = 512_000
TIERS = ("A", "B", "C")
_DIGITS = 6


def short(value: float) -> float | None:
    """A number with six significant digits, as it is sent; None for one that is not finite."""
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A candidate for one place."""

    id: int
    token: str
    probability: float
    logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PathStep:
    """One generated token, with what else could have stood there."""

    id: int
    token: str
    probability: float
    logprob: float | None
    rank: int
    entropy: float
    forced: bool = False
    end: bool = False
    top: tuple[Alternative, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One model's greedy answer."""

    answer: str
    finish_reason: str
    path: tuple[PathStep, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForcedToken:
    """A token of a given answer and how probable each model finds it there."""

    id: int
    text: str
    tuned_logprob: float | None
    base_logprob: float | None
    change: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forced:
    """An answer read through both models."""

    source: str
    tokens: tuple[ForcedToken, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A token of the vocabulary whose embedding points nearly the same way."""

    id: int
    token: str
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """Layer 2: the vectors that enter the first block."""

    norms: tuple[float, ...]
    token: int | None
    neighbours: tuple[Neighbour, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSide:
    """Layer 3 of one model; matrices are layer x position."""

    top: tuple[tuple[int, ...], ...]
    probability: tuple[tuple[float | None, ...], ...]
    settled: tuple[int, ...]
    appears: tuple[int | None, ...]
    residual_norm: tuple[float | None, ...]
    attention_norm: tuple[float | None, ...] | None
    mlp_norm: tuple[float | None, ...] | None
    attention_share: tuple[float | None, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Layer 3 of both models over the same tokens."""

    count: int
    positions: tuple[int, ...]
    sequence: tuple[dict[str, Any], ...]
    targets: tuple[int | None, ...]
    tokens: dict[str, str]
    tuned: LayerSide
    base: LayerSide | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterChange:
    """How much an adapter changes one matrix, relative to it."""

    layer: int | None
    module: str
    relative_change: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Where one block of the tuned model looks."""

    layer: int
    heads: int
    keys: int
    queries: tuple[int, ...]
    mean: tuple[tuple[float, ...], ...]
    per_head_queries: tuple[int, ...]
    per_head: tuple[tuple[tuple[float, ...], ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A part that this trace does not have, and why."""

    tier: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What the engine host measured; the API adds names, the nearest examples and the time."""

    prompt_tokens: tuple[dict[str, Any], ...]
    tuned: Side | None
    base_side: Side | None = None
    forced: Forced | None = None
    embedding: Embedding | None = None
    layers: Layers | None = None
    adapter: tuple[AdapterChange, ...] | None = None
    attention: Attention | None = None
    missing: tuple[Missing, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them, with ``why``."""
        plain: dict[str, Any] = _plain(self)
        plain["why"] = why(self.forced, self.layers, len(self.prompt_tokens))
        return plain


def _plain(value: Any) -> Any:
    """As ``asdict``, but matrices of numbers are handed on as they are: copying them would hold the engine up."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple) and value and is_dataclass(value[0]):
        return [_plain(item) for item in value]
    return value


def settled_layer(top_L: Sequence[int]) -> int:
    """The first layer from which the last layer's token stays on top."""
    layer = len(top_L) - 1
    while layer > 0 and top_L[layer - 1] == top_L[-1]:
        layer -= 1
    return layer


def why(forced: Forced | None, layers: Layers | None, num_prompt: int, most: int = 5) -> dict[str, Any] | None:
    """The most shifted tokens of the answer and where in the depth each token of it first is on top; None where there is neither."""
    if forced is None and layers is None:
        return None
    compared = [(i, t) for i, t in enumerate(forced.tokens if forced else ()) if t.change is not None]
    compared.sort(key=lambda pair: -abs(pair[1].change or 0.0))
    first: list[dict[str, Any]] = []
    if layers is not None:
        for at, position in enumerate(layers.positions):
            index, target = position + 1 - num_prompt, layers.targets[at]
            if index >= 0 and target is not None:
                base = layers.base.appears[at] if layers.base else None
                text = layers.sequence[position + 1]["token"]
                first.append({"index": index, "id": target, "text": text, "tuned_layer": layers.tuned.appears[at], "base_layer": base})
    return {"most_shifted": [{"index": i, **asdict(token)} for i, token in compared[:most]], "first_layers": first}
