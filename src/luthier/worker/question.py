"""The one question that stage 5 asks: taken from the validation file where it can be, and then never seen in training.

What it does not: judge the answer (stage 4 does, on all of them). Called by ``worker/pipelines.py``.
"""

from dataclasses import dataclass
from typing import Any

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
    """The first validation question whose prompt is in no training row; without one, the first training prompt, marked so."""
    seen = {question.asked[-1]["content"] for e in training.examples if (question := question_of(e.source.line, e.conversation))}
    for example in validation.examples if validation else ():
        question = question_of(example.source.line, example.conversation)
        if question is not None and question.asked[-1]["content"] not in seen:
            return OpenQuestion(messages=question.asked, text=str(question.asked[-1]["content"]), held_out=True)
    for example in training.examples:
        question = question_of(example.source.line, example.conversation)
        if question is not None:
            return OpenQuestion(messages=question.asked, text=str(question.asked[-1]["content"]), held_out=False)
    hello = "Hello"
    return OpenQuestion(messages=({"role": "user", "content": hello},), text=hello, held_out=True)


def show_prompt(engine: EnginePort, target: ModelTarget, question: OpenQuestion) -> list[dict[str, Any]]:
    """The prompt's tokens as the model reads them, at most the last 256."""
    reply = engine.request(Render(target=target, messages=question.messages))
    assert isinstance(reply, RenderedTokens)
    return [{k: t[k] for k in ("id", "text", "kind", "role")} for t in reply.tokens[-_MAX_PROMPT_TOKENS:]]
