"""Asks one model every held-out question and scores the expected answers, through the engine that serves it.

What it does: greedy answers, and loss and token accuracy of the expected answers. What it does not: compare two models
(``report.py``). Called by ``evaluation/stage.py``.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from luthier.core.conversation import Conversation, Role, message_to_dict
from luthier.core.engine_messages import EnginePort, Generate, Score, Scores
from luthier.core.generation import ModelTarget, SamplingParams

# Requests kept in flight; the engine batches them.
_CONCURRENCY = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A held-out example split into what is asked and what is expected."""

    line: int
    asked: tuple[dict[str, object], ...]
    expected: str
    whole: tuple[dict[str, object], ...]
    other: tuple[dict[str, object], ...] | None = None
    """The same with the answer that is not preferred, where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleResult:
    """One model's result on one question."""

    answer: str
    loss: float
    """Mean loss of the expected answer's tokens, nats."""
    num_tokens: int
    num_correct: int


def question_of(line: int, conversation: Conversation) -> Question | None:
    """Ask up to the last assistant message; None when nothing is asked before it."""
    messages = conversation.messages
    last = max((i for i, m in enumerate(messages) if m.role is Role.ASSISTANT), default=0)
    if last == 0:
        return None
    asked = tuple(message_to_dict(m) for m in messages[:last])
    return Question(line=line, asked=asked, expected=messages[last].content, whole=weighted(conversation)[: last + 1])


def weighted(conversation: Conversation) -> tuple[dict[str, object], ...]:
    """All messages as plain values, those of the assistant with the weight of their tokens."""
    messages = conversation.messages
    return tuple({**message_to_dict(m), "weight": m.weight} if m.role is Role.ASSISTANT else message_to_dict(m) for m in messages)


def run(engine: EnginePort, target: ModelTarget, questions: Sequence[Question], *, max_tokens: int, max_length: int) -> list[SampleResult]:
    """Answer and score all questions with one model; results in the questions' order."""

    def answer(question: Question) -> str:
        sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens)
        text, _, _ = engine.generate(Generate(target=target, sampling=sampling, messages=question.asked))
        return text

    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        answers = list(pool.map(answer, questions))
    reply = engine.request(Score(target=target, conversations=tuple(q.whole for q in questions), max_length=max_length))
    assert isinstance(reply, Scores)
    results = []
    for text, entry in zip(answers, reply.entries, strict=True):
        num_tokens = int(entry["num_tokens"])
        loss = float(entry["loss_sum"]) / max(num_tokens, 1)
        results.append(SampleResult(answer=text, loss=loss, num_tokens=num_tokens, num_correct=int(entry["num_correct"])))
    return results
