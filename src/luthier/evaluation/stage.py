"""Stage 4: a served base and a served tuned model -> a report on the validation file.

What it does not: load models; the engine host does. Called by ``worker/pipelines.py``.
"""

import random
from array import array
from dataclasses import replace
from typing import Any

from luthier.core.engine_messages import EnginePort
from luthier.core.examples import Dataset, PreferenceExample, TunableExample
from luthier.core.generation import ModelTarget
from luthier.evaluation import preference
from luthier.evaluation.preference import PreferenceSetting, preference_report, score_pairs
from luthier.evaluation.report import build_report
from luthier.evaluation.runner import Question, question_of, run, weighted

# Held-out examples answered at most; a larger file is sampled with the job's seed.
MAX_QUESTIONS = 200
# Longest answer asked for, tokens.
MAX_ANSWER_TOKENS = 128


def held_out_questions(dataset: Dataset, seed: int) -> list[Question]:
    """The questions of a validation file in file order, at most ``MAX_QUESTIONS``, chosen by seed."""
    questions: list[Question] = []
    asking = array("q")  # places of the rows that ask something: of a large file only the chosen ones are kept
    for place, example in enumerate(dataset.examples):
        question = _question(example)
        if question is not None:
            asking.append(place)
            if len(questions) < MAX_QUESTIONS:
                questions.append(question)
    if len(asking) <= MAX_QUESTIONS:
        return questions
    chosen = sorted(random.Random(seed).sample(range(len(asking)), MAX_QUESTIONS))
    return [question for i in chosen if (question := _question(dataset.examples[asking[i]])) is not None]


def _question(example: TunableExample) -> Question | None:
    question = question_of(example.source.line, example.conversation)
    if question is None or not isinstance(example, PreferenceExample):
        return question
    return replace(question, other=weighted(example.other))


def evaluate(
    engine: EnginePort,
    *,
    base: ModelTarget,
    tuned: ModelTarget,
    questions: list[Question],
    max_length: int,
    setting: PreferenceSetting | None = None,
) -> dict[str, Any]:
    """Answer and score the questions with both models, and compare.

    Args:
        engine: that serves them.
        base, tuned: the models.
        questions: of ``held_out_questions``.
        max_length: longest example, tokens.
        setting: given where the questions are pairs of answers: then the verdicts are about the pairs.

    Returns:
        See ``report.build_report``; with pairs also ``preference`` (``preference.preference_report``).
    """
    results = [run(engine, target, questions, max_tokens=MAX_ANSWER_TOKENS, max_length=max_length) for target in (base, tuned)]
    if setting is None:
        return build_report(questions, results[0], results[1])
    targets = {target.name: target for target in (base, tuned, setting.reference) if target is not None}
    scores = {name: score_pairs(engine, target, questions, max_length=max_length) for name, target in targets.items()}
    pairs = (scores[base.name], scores[tuned.name])
    report = build_report(questions, results[0], results[1], verdicts=list(map(preference.verdict, *pairs)), rule=preference.RULE)
    for sample, before, after in zip(report["samples"], *pairs, strict=False):
        sample |= {"base_lead": before.lead, "tuned_lead": after.lead}
    reference = None if setting.reference is None else scores[setting.reference.name]
    return {**report, "preference": preference_report(reference, *pairs, setting)}
