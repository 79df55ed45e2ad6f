"""Answers that are always the same, and answers that only repeat what was asked.

What it does not: look at labels (``labels.py``), or at single answers' words (``detectors``). Called by ``examine.py``.
"""

from collections.abc import Iterator

import numpy as np

from luthier.core.doctor_report import DoctorFinding, Weight
from luthier.data.doctor.draft import Draft, Rows, count_of, excerpt, first_lines, question_of, rows_of, share_of
from luthier.data.doctor.row_facts import RowFacts

CODES = ("constant_answer", "frequent_answer", "answer_repeats_prompt")
_LEAST_ROWS = 20
_CONSTANT, _FREQUENT = 0.9, 0.1
_LEAST_FREQUENT = 10


def answers(facts: RowFacts, *, is_label_task: bool) -> Iterator[Draft]:
    """One answer for all or for many rows, and answers that repeat the question."""
    found, counts = np.unique(facts.keys("folded_answer"), return_counts=True)
    most = int(counts.max())
    constant = most >= _CONSTANT * len(facts)
    if len(facts) >= _LEAST_ROWS and (constant or (not is_label_task and most >= max(_LEAST_FREQUENT, _FREQUENT * len(facts)))):
        where = first_lines(facts.sizes("line")[facts.keys("folded_answer") == found[np.argmax(counts)]])
        rest = len(found) - 1
        finding = DoctorFinding(
            code=CODES[0] if constant else CODES[1],
            weight=Weight.SERIOUS if constant else Weight.WORTH_A_LOOK,
            count=most,
            lines=where,
            finding=(
                f"{rows_of(most, len(facts), 'has', 'have')} one and the same answer"
                + (f"; the others have {count_of(rest, 'different one')}." if rest else ".")
            ),
            why="The model learns to give this answer whatever is asked.",
            cure="Look whether the right column was taken for the answer; keep no more such rows than such answers are wanted.",
        )
        yield Draft(finding=finding, needs=where[:1], show=lambda rows: [excerpt(rows[line].answer) for line in where[:1]])
    yield from _echoes(facts)


def _echoes(facts: RowFacts) -> Iterator[Draft]:
    echoes = facts.echoes()
    count = int((echoes > 0).sum())
    if not count:
        return
    whole = int((echoes == 1).sum())
    where = first_lines(facts.sizes("line")[echoes > 0])
    finding = DoctorFinding(
        code=CODES[2],
        weight=Weight.WORTH_A_LOOK,
        count=count,
        lines=where,
        finding=(
            f"In {count_of(count, 'row')} of {len(facts):,} ({share_of(count, len(facts))}) the answer begins with the whole last "
            f"question" + (f"; in {whole:,} of them it says nothing else." if whole else ".")
        ),
        why="The model learns to repeat what it is asked, which is seldom meant and costs tokens.",
        cure="Take the question out of the answers, unless repeating is the task.",
    )

    def show(rows: Rows) -> list[str]:
        return [f"line {line:,}: {excerpt(question_of(rows[line]), 50)} is answered {excerpt(rows[line].answer, 50)}" for line in where[:3]]

    yield Draft(finding=finding, needs=where[:3], show=show)
