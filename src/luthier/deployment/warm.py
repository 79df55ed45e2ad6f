"""Stage 5, second half: a published folder is loaded, warmed and asked one real question before its name is announced.

What it does not: decide the question (the pipeline takes one that the training file does not hold). Called by
``worker/deploying.py``.
"""

import math
from dataclasses import dataclass
from typing import Any

from luthier.core.engine_messages import EnginePort, Finished, Generate, Load, Loaded
from luthier.core.generation import ModelTarget, SamplingParams, TokenLogprob

# Longest traced answer, and alternatives per token (design: at most 64 generated tokens, top 20).
MAX_TRACED_TOKENS = 64
TRACED_ALTERNATIVES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmed:
    """A loaded model, with one real answer and its times, taken beside the base's answer to the same question."""

    bytes: int
    load_seconds: float
    first_token_seconds: float
    tokens_per_second: float
    traced: dict[str, Any]
    """See ``trace_answer``."""


def load_model(engine: EnginePort, target: ModelTarget) -> Loaded:
    """Load one model into the engine and wait until it answers."""
    reply = engine.request(Load(target=target))
    assert isinstance(reply, Loaded)
    return reply


def warm(engine: EnginePort, target: ModelTarget, question: tuple[dict[str, Any], ...]) -> Warmed:
    """Load the model and ask it ``question`` greedily."""
    loaded = load_model(engine, target)
    traced, finished = _asked(engine, target, question)
    return Warmed(
        bytes=loaded.bytes,
        load_seconds=loaded.seconds,
        first_token_seconds=finished.first_token_seconds,
        tokens_per_second=finished.completion_tokens / max(finished.total_seconds, 1e-9),
        traced=traced,
    )


def _path(tokens: list[TokenLogprob]) -> list[dict[str, Any]]:
    return [
        {
            "token": t.text,
            "probability": math.exp(t.logprob),
            "top": [{"token": a.text, "probability": math.exp(a.logprob)} for a in t.top],
        }
        for t in tokens
    ]


def trace_answer(engine: EnginePort, target: ModelTarget, question: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """One greedy answer with each token's probability (the end token last) and best alternatives (tier A of the trace)."""
    return _asked(engine, target, question)[0]


def _asked(engine: EnginePort, target: ModelTarget, question: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], Finished]:
    sampling = SamplingParams(temperature=0.0, max_tokens=MAX_TRACED_TOKENS, top_logprobs=TRACED_ALTERNATIVES)
    answer, tokens, finished = engine.generate(Generate(target=target, sampling=sampling, messages=question))
    # The end token is a choice like the others: an untuned base often ends at once, and that is what there is to see.
    end = [finished.end_token] if finished.end_token is not None else []
    return {"answer": answer, "path": [*_path(tokens), *({**entry, "end": True} for entry in _path(end))]}, finished
