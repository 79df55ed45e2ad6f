"""Stage 4: a served base and a served tuned model -> a report on the validation file.

What it does not: load models; the engine host does. Called by ``worker/pipelines.py``.
"""

import random
from typing import Any

from luthier.core.engine_messages import EnginePort
from luthier.core.examples import Dataset
from luthier.core.generation import ModelTarget
from luthier.evaluation.report import build_report
from luthier.evaluation.runner import Question, question_of, run

# Held-out examples answered at most; a larger file is sampled with the job's seed.
MAX_QUESTIONS = 200
# Longest answer asked for, tokens.
MAX_ANSWER_TOKENS = 128


def held_out_questions(dataset: Dataset, seed: int) -> list[Question]:
    """The questions of a validation file in file order, at most ``MAX_QUESTIONS``, chosen by seed."""
    questions = [q for e in dataset.examples if (q := question_of(e.source.line, e.conversation)) is not None]
    if len(questions) > MAX_QUESTIONS:
        chosen = sorted(random.Random(seed).sample(range(len(questions)), MAX_QUESTIONS))
        questions = [questions[i] for i in chosen]
    return questions


def evaluate(engine: EnginePort, *, base: ModelTarget, tuned: ModelTarget, questions: list[Question], max_length: int) -> dict[str, Any]:
    """Answer and score the questions with both models, and compare. See ``report.build_report`` for the result."""
    results = [run(engine, target, questions, max_tokens=MAX_ANSWER_TOKENS, max_length=max_length) for target in (base, tuned)]
    return build_report(questions, results[0], results[1])
