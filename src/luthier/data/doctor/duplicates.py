"""Rows that say the same again: to the byte, but for case and spaces, or nearly.

What it does: counts each row that repeats an earlier one (one of the copies may stay). What it does not: compare two files
(``overlap.py``). Called by ``examine.py``.
"""

from collections.abc import Callable, Iterator

import numpy as np

from luthier.core.doctor_report import DoctorFinding, Weight
from luthier.data.doctor.draft import Draft, Rows, count_of, excerpt, first_lines, named_lines, question_of, repeats, rows_of
from luthier.data.doctor.row_facts import RowFacts

CODES = ("exact_duplicate", "folded_duplicate")
NEAR_CODE = "near_duplicate"
_MANY, _SOME = 0.25, 0.05
_WHY = "A row that stands several times weighs several times as much, and is learned by heart sooner than the rest."


def duplicates(facts: RowFacts) -> Iterator[Draft]:
    """Copies to the byte, and copies but for case and spaces."""
    lines = facts.sizes("line")
    exact = repeats(facts.keys("raw"))
    folded = repeats(facts.keys("folded")) & ~exact
    asides = {
        CODES[0]: "to the byte",
        CODES[1]: "in prompt and answer, case and spaces aside, but not to the byte",
    }
    for (code, aside), mask in zip(asides.items(), (exact, folded), strict=True):
        count = int(mask.sum())
        if count:
            where = first_lines(lines[mask])
            finding = DoctorFinding(
                code=code,
                weight=Weight.SERIOUS if count >= _MANY * len(facts) else Weight.WORTH_A_LOOK,
                count=count,
                lines=where,
                finding=f"{rows_of(count, len(facts), 'repeats', 'repeat')} an earlier one {aside}.",
                why=_WHY,
                cure="Keep one of each, unless the weight is meant; keep the copies out of the validation file in any case.",
            )
            yield Draft(finding=finding, needs=where[:3], show=_questions(where[:3]))


def near_duplicates(facts: RowFacts) -> Iterator[Draft]:
    """Rows of which about nine in ten telling words are those of another row."""
    rows, first = facts.near()
    if not len(rows):
        return
    lines = facts.sizes("line")
    groups, sizes = np.unique(first, return_counts=True)
    several = sizes > 1
    count = int((sizes[several] - 1).sum())
    if not count:
        return
    largest = first_lines(lines[rows[first == groups[np.argmax(sizes)]]])
    where = first_lines(lines[rows[rows != first]])
    finding = DoctorFinding(
        code=NEAR_CODE,
        weight=Weight.WORTH_A_LOOK if count >= _SOME * len(facts) else Weight.INFORMATION,
        count=count,
        lines=where,
        finding=(
            f"{rows_of(count, len(facts), 'says', 'say')} nearly what an earlier one says; "
            f"they make {count_of(int(several.sum()), 'group')}, the largest of {int(sizes.max()):,} rows ({named_lines(largest)})."
        ),
        why="Rows that differ in a word or two teach little more than one of them, and one on each side of a split makes scores too good.",
        cure="Look at the largest group and thin it out; luthier data split keeps such rows on one side.",
    )
    yield Draft(finding=finding, needs=largest[:3], show=_questions(largest[:3]))


def _questions(lines: tuple[int, ...]) -> Callable[[Rows], list[str]]:
    def show(rows: Rows) -> list[str]:
        return [f"line {line:,}: {excerpt(question_of(rows[line]) or rows[line].answer)}" for line in lines if line in rows]

    return show
