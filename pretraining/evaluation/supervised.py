"""A task with a training file and a test file: how many answers the base has right, and how many a tuned model has right.

What it does: greedy answers of both under the same prompts, judged by one rule (``same_answer``). What it does not: know any task.
Called by ``tasks.py`` and ``examples.py``.
"""

import json
import time
from pathlib import Path
from typing import Any

import torch

from luthier.chat.renderer import Renderer
from luthier.core.examples import Dataset
from luthier.core.specs import Hyperparameters
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from pretraining.evaluation.generate import greedy_answers, questions_of
from pretraining.evaluation.statistics import pack_hits
from pretraining.evaluation.tune import num_threads, read_dataset, tune

RULE = "right: the same text, or the same JSON object, or the same tool calls (name and arguments)"
TOOL_CALL = "<|tool_call|>"
_ROOM = 8
"""An answer may be so many tokens longer than the longest expected one before it is cut."""


def same_answer(answer: str, expected: str) -> bool:
    """Whether an answer is the expected one: see ``RULE``. Spaces around it do not count; the order of JSON keys neither."""
    if answer.strip() == expected.strip():
        return True
    if TOOL_CALL in expected:
        calls = _calls(expected)
        return calls is not None and calls == _calls(answer)
    wanted = _object(expected)
    return wanted is not None and wanted == _object(answer)


def ask_base(folder: Path, test: Path) -> dict[str, Any]:
    """The untuned model's answers: ``n``, ``right``, ``hits`` (see ``statistics.pack_hits``) and ``answer_seconds``."""
    model = load_model(folder)
    return _ask(model, Renderer.load(folder), None, read_dataset(test, "validation"))


def tune_and_ask(
    folder: Path, train: Path, test: Path, *, seed: int, valid: Path | None = None, hyperparameters: Hyperparameters | None = None
) -> dict[str, Any]:
    """Train a LoRA adapter and ask it: the fields of ``ask_base``, and under ``run`` those of ``tune.Tuned.facts``."""
    tuned = tune(folder, train, valid, seed=seed, hyperparameters=hyperparameters)
    answers = _ask(tuned.model, Renderer.load(folder), tuned.adapter, read_dataset(test, "validation"))
    return answers | {"run": tuned.facts}


def _ask(model: LanguageModel, renderer: Renderer, adapter: str | None, dataset: Dataset) -> dict[str, Any]:
    torch.set_num_threads(num_threads(model))
    marks = any(message.tool_calls for example in dataset.examples for message in example.conversation.messages)
    questions = questions_of(dataset, renderer, keep_marks=marks)
    longest = max(question.num_expected for question in questions) + _ROOM
    began = time.perf_counter()
    prompts = [question.prompt_ids for question in questions]
    answers = greedy_answers(model, renderer, prompts, max_tokens=longest, adapter=adapter, keep_marks=marks)
    hits = [same_answer(answer, question.expected) for answer, question in zip(answers, questions, strict=True)]
    return pack_hits(hits) | {"answer_seconds": round(time.perf_counter() - began, 2)}


def _object(text: str) -> str | None:
    """A JSON object in one spelling, or None. As text, because Python holds 1 and true for equal."""
    try:
        plain = json.loads(text)
    except ValueError:
        return None
    return json.dumps(plain, sort_keys=True) if isinstance(plain, dict) else None


def _calls(text: str) -> list[tuple[str, str]] | None:
    """Name and arguments of every tool call in a rendered answer; None when one of them is no call or there is none."""
    calls = []
    for piece in text.split(TOOL_CALL)[1:]:
        try:
            plain = json.loads(piece)
            arguments = plain["arguments"]
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
            calls.append((str(plain["name"]), json.dumps(arguments, sort_keys=True)))
        except (ValueError, KeyError, TypeError):
            return None
    return calls or None
