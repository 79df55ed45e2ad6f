"""The one question that stage 5 asks: taken from the validation file where it can be, and then never seen in training.

What it does not: judge the answer (stage 4 does, on all of them). Called by ``worker/deploying.py``.
"""

import hashlib
from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np

from luthier.core.engine_messages import EnginePort, Render, RenderedTokens
from luthier.core.examples import Dataset
from luthier.core.generation import ModelTarget
from luthier.evaluation.runner import question_of

_MAX_PROMPT_TOKENS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenQuestion:
    """What is asked, and whether training has seen it."""

    messages: tuple[dict[str, Any], ...]
    text: str
    """The last message's content."""
    held_out: bool


def open_question(training: Dataset, validation: Dataset | None) -> OpenQuestion:
    """The first validation question whose prompt is in no training row; without one, the first training prompt, marked so.

    The rows are read one after another; kept are 8 bytes for each training row, and only where there is a validation file.
    """
    if validation is not None:
        seen = _Prompts(training)
        for example in validation.examples:
            question = question_of(example.source.line, example.conversation)
            if question is not None and question.asked[-1]["content"] not in seen:
                return OpenQuestion(messages=question.asked, text=str(question.asked[-1]["content"]), held_out=True)
    for example in training.examples:
        question = question_of(example.source.line, example.conversation)
        if question is not None:
            return OpenQuestion(messages=question.asked, text=str(question.asked[-1]["content"]), held_out=False)
    hello = "Hello"
    return OpenQuestion(messages=({"role": "user", "content": hello},), text=hello, held_out=True)


class _Prompts:
    """Whether a prompt is among those of a data set. Two with one hash are taken for the same: an unseen prompt may be passed over,
    a seen one never is taken for unseen."""

    def __init__(self, dataset: Dataset) -> None:
        hashes = array("Q")
        for example in dataset.examples:
            question = question_of(example.source.line, example.conversation)
            if question is not None:
                hashes.append(_hash(question.asked[-1]["content"]))
        self._sorted = np.frombuffer(hashes, dtype=np.uint64) if hashes else np.empty(0, dtype=np.uint64)
        self._sorted.sort()

    def __contains__(self, prompt: object) -> bool:
        wanted = np.uint64(_hash(prompt))
        place = int(np.searchsorted(self._sorted, wanted))
        return place < self._sorted.size and self._sorted[place] == wanted


def _hash(prompt: object) -> int:
    return int.from_bytes(hashlib.blake2b(str(prompt).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def show_prompt(engine: EnginePort, target: ModelTarget, question: OpenQuestion) -> list[dict[str, Any]]:
    """The prompt's tokens as the model reads them, at most the last 256."""
    reply = engine.request(Render(target=target, messages=question.messages))
    assert isinstance(reply, RenderedTokens)
    return [{k: t[k] for k in ("id", "text", "kind", "role")} for t in reply.tokens[-_MAX_PROMPT_TOKENS:]]
