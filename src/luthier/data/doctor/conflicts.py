"""Prompts that are asked several times and answered differently, preferences that contradict each other, one prompt for all.

What it does: compares hashes of prompts and answers, to the byte and without regard to case and spaces. What it does not: judge
which answer is right. Called by ``examine.py``.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from luthier.core.doctor_report import DoctorFinding, Weight
from luthier.data.doctor.draft import Draft, Rows, combined, count_of, excerpt, first_lines, question_of, rows_of
from luthier.data.doctor.row_facts import RowFacts

CODES = ("conflicting_answers", "constant_prompt")
PREFERENCE_CODES = ("contradictory_preference",)
_MOSTLY = 0.5
_LEAST_ROWS = 20
_SOME = 0.01


def conflicts(facts: RowFacts, *, is_label_task: bool) -> Iterator[Draft]:
    """The same prompt with different answers; a prompt that most rows share is told apart from it."""
    asked = facts.sizes("question_chars") > 0
    prompts, answers = facts.keys("folded_prompt"), facts.keys("folded_answer")
    found, counts = np.unique(prompts, return_counts=True)
    constant: NDArray[np.bool_] = np.zeros(len(facts), dtype=bool)
    if len(facts) >= _LEAST_ROWS and counts.max() > _MOSTLY * len(facts):
        constant = prompts == found[np.argmax(counts)]
        # One prompt with one answer again and again is a matter of duplicates.
        if len(np.unique(answers[constant])) > _LEAST_ROWS // 2:
            yield _constant(facts, constant)
        else:
            constant = np.zeros(len(facts), dtype=bool)
    in_conflict = asked & ~constant & np.isin(prompts, _ambiguous(prompts, answers))
    count = int(in_conflict.sum())
    if not count:
        return
    to_the_byte = len(_ambiguous(facts.keys("prompt")[in_conflict], answers[in_conflict]))
    groups = len(np.unique(prompts[in_conflict]))
    serious = is_label_task and count >= _SOME * len(facts)
    finding = DoctorFinding(
        code=CODES[0],
        weight=Weight.SERIOUS if serious else Weight.WORTH_A_LOOK if count >= _SOME * len(facts) else Weight.INFORMATION,
        count=count,
        lines=first_lines(facts.sizes("line")[in_conflict]),
        finding=(
            f"{rows_of(count, len(facts), 'shares', 'share')} {count_of(groups, 'prompt')} and answer "
            f"differently" + ("." if to_the_byte == groups else f" ({groups - to_the_byte:,} of the prompts: case and spaces aside).")
        ),
        why="Where the same question has two answers, no model can give both: the loss stays up, and which answer comes is chance.",
        cure="Decide on one answer for each prompt, or add to the prompt what makes the difference.",
    )
    groups_of_lines = _first_groups(facts, prompts, answers, in_conflict)
    yield Draft(finding=finding, needs=tuple(line for lines in groups_of_lines for line in lines), show=_pairs(groups_of_lines))


def contradictions(facts: RowFacts) -> Iterator[Draft]:
    """Preference rows of which one prefers what the other rejects."""
    prompts, preferred, rejected = facts.keys("folded_prompt"), facts.keys("folded_answer"), facts.keys("rejected")
    pairs = combined(prompts, np.minimum(preferred, rejected), np.maximum(preferred, rejected))
    mask = np.isin(pairs, _ambiguous(pairs, preferred)) & (preferred != rejected)
    count = int(mask.sum())
    if not count:
        return
    finding = DoctorFinding(
        code=PREFERENCE_CODES[0],
        weight=Weight.SERIOUS if count >= _SOME * len(facts) else Weight.WORTH_A_LOOK,
        count=count,
        lines=first_lines(facts.sizes("line")[mask]),
        finding=(
            f"{rows_of(count, len(facts), 'contradicts', 'contradict')} each other: to the same prompt, "
            "one prefers the answer that another rejects."
        ),
        why="Such rows cancel each other out: the model is pushed to and fro between the two answers.",
        cure="Keep the preference that is meant and remove the other.",
    )
    groups_of_lines = _first_groups(facts, pairs, preferred, mask)
    yield Draft(finding=finding, needs=tuple(line for lines in groups_of_lines for line in lines), show=_pairs(groups_of_lines))


def _constant(facts: RowFacts, mask: NDArray[np.bool_]) -> Draft:
    count = int(mask.sum())
    where = first_lines(facts.sizes("line")[mask])
    finding = DoctorFinding(
        code=CODES[1],
        weight=Weight.SERIOUS,
        count=count,
        lines=where,
        finding=(
            f"{rows_of(count, len(facts), 'has', 'have')} one and the same prompt, "
            f"with {count_of(len(np.unique(facts.keys('folded_answer')[mask])), 'different answer')}."
        ),
        why="From one prompt the model cannot tell which answer is asked for; often the column with the input was left out of the prompt.",
        cure="Put into each prompt what its answer is made from; luthier data import shows which columns it leaves out.",
    )
    return Draft(finding=finding, needs=where[:1], show=lambda rows: [f"{excerpt(question_of(rows[line]))}" for line in where[:1]])


def _ambiguous(prompts: NDArray[np.uint64], answers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The prompts with more than one answer."""
    pairs = np.unique(np.stack([prompts, answers]), axis=1)[0]
    found, counts = np.unique(pairs, return_counts=True)
    return found[counts > 1]


def _first_groups(
    facts: RowFacts, prompts: NDArray[np.uint64], answers: NDArray[np.uint64], mask: NDArray[np.bool_]
) -> list[tuple[int, int]]:
    """Of the first three groups: the first row's line, and that of the first row with another answer."""
    lines = facts.sizes("line")
    found: dict[int, tuple[int, int]] = {}
    for row in np.flatnonzero(mask)[:1000].tolist():
        prompt = int(prompts[row])
        if prompt not in found and len(found) < 3:
            others = np.flatnonzero((prompts == prompts[row]) & (answers != answers[row]))
            found[prompt] = int(lines[row]), int(lines[others[0]])
    return list(found.values())


def _pairs(groups: list[tuple[int, int]]) -> Callable[[Rows], list[str]]:
    def show(rows: Rows) -> list[str]:
        return [
            f"{excerpt(question_of(rows[one]), 60)} line {one:,}: {excerpt(rows[one].answer, 40)}, "
            f"line {other:,}: {excerpt(rows[other].answer, 40)}"
            for one, other in groups
        ]

    return show
