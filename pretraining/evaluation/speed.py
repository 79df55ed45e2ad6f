"""Section ``speed``: how long the model takes to load and to answer when nothing else runs, beside its bounds.

What it does: medians of five. What it does not: start a process or a server (``benchmarks/`` does). Called by
``pretraining/evaluate.py``.
"""

import gc
import statistics
import time
from typing import Any

import torch

from luthier.chat.renderer import Renderer
from luthier.models.load import load_model
from pretraining.evaluation.generate import chat_prompt, new_engine, new_generation
from pretraining.evaluation.options import Options
from pretraining.evaluation.results import Section
from pretraining.evaluation.tables import show, verdict
from pretraining.evaluation.tune import num_threads

NAME = "speed"
REPEATS = 5
ANSWER_TOKENS = 16
LOAD_SECONDS, ANSWER_SECONDS = 0.3, 0.06
_QUESTION = "Good morning! How are you today?"


def missing(options: Options) -> list[str]:
    """Nothing but the model is read."""
    return []


def run(options: Options, section: Section) -> None:
    """Measure and print."""
    load = section.measured("load", lambda: _load(options))
    answer = section.measured("answer", lambda: _answer(options))
    show(
        f"Speed, median of {REPEATS} (no seed). The process is warm: torch is imported, the files are in the system's cache; every load "
        "makes a new model. The engine is idle but for the one greedy answer, and its cache is made",
        ["what", "n", "median", "smallest", "largest", "bound", ""],
        [
            ["load the model, s", load["n"], *_three(load, 1, 3), f"<= {LOAD_SECONDS}", verdict(load["median"] <= LOAD_SECONDS)],
            [
                f"answer of {ANSWER_TOKENS} tokens to {answer['prompt_tokens']}, ms",
                answer["n"],
                *_three(answer, 1000, 1),
                f"<= {1000 * ANSWER_SECONDS:.0f}",
                verdict(answer["median"] <= ANSWER_SECONDS),
            ],
        ],
    )


def _load(options: Options) -> dict[str, Any]:
    seconds = []
    for _ in range(REPEATS):
        gc.collect()
        began = time.perf_counter()
        model = load_model(options.model)
        seconds.append(time.perf_counter() - began)
        del model
    return _summary(seconds)


def _answer(options: Options) -> dict[str, Any]:
    model, renderer = load_model(options.model), Renderer.load(options.model)
    torch.set_num_threads(num_threads(model))
    prompt = chat_prompt(renderer, _QUESTION)
    engine = new_engine(model, min(model.facts.max_length, len(prompt) + ANSWER_TOKENS))
    seconds = []
    for _ in range(REPEATS + 1):
        # No token ends the answer, so that every one has its full length whatever the model says.
        generation = new_generation(renderer, prompt, max_tokens=ANSWER_TOKENS, adapter=None, stop_ids=frozenset(), emit=lambda reply: None)
        began = time.perf_counter()
        engine.add(generation)
        while engine.num_active:
            engine.step()
        seconds.append(time.perf_counter() - began)
        assert generation.num_generated == ANSWER_TOKENS
    # The first answer made the cache.
    return _summary(seconds[1:]) | {"prompt_tokens": len(prompt), "answer_tokens": ANSWER_TOKENS, "threads": torch.get_num_threads()}


def _summary(seconds: list[float]) -> dict[str, Any]:
    return {"n": len(seconds), "median": statistics.median(seconds), "smallest": min(seconds), "largest": max(seconds)}


def _three(summary: dict[str, Any], scale: float, digits: int) -> list[str]:
    return [f"{scale * summary[key]:.{digits}f}" for key in ("median", "smallest", "largest")]
