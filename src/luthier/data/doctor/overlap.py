"""Validation rows that training has seen: the same row, the same prompt, or a prompt of the same group of near-equal ones.

What it does: counts each validation row once, under the closest kind; the groups are those that ``luthier data split`` keeps on one
side. What it does not: look for copies within one file (``duplicates.py``). Called by ``examine.py``.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from luthier.core.doctor_report import DoctorFinding, Weight
from luthier.data.doctor.draft import Draft, count_of, first_lines, rows_of
from luthier.data.doctor.row_facts import RowFacts

CODES = ("validation_row_in_training", "validation_prompt_in_training", "validation_near_training")
_SOME = 0.01
_WHY = {
    CODES[0]: "What was learned by heart is repeated, so the validation loss and every score of these rows are too good.",
    CODES[1]: "The model has seen the question: scores of these rows say little of questions that are new.",
    CODES[2]: "A question that differs in a word or a number from one that was learned says little of questions that are new.",
}
_WORDS = {
    CODES[0]: ("stands in the training file too", "stand in the training file too"),
    CODES[1]: ("has a prompt of the training file, but another answer", "have a prompt of the training file, but another answer"),
    CODES[2]: (
        "has a prompt that is nearly one of the training file's, or is one but for numbers or settings",
        "have a prompt that is nearly one of the training file's, or is one but for numbers or settings",
    ),
}
_CURE = "Join both files and split them anew: luthier data split keeps equal and nearly equal prompts on one side."


def overlap(training: RowFacts, validation: RowFacts, groups: NDArray[np.int64], name: str) -> Iterator[Draft]:
    """The overlap of two files.

    Args:
        training: rows of the training file.
        validation: rows of the validation file.
        groups: for each row of training, then of validation, a number of its group of near-equal prompts (``near_equal.py``).
        name: of the validation file.
    """
    in_training, in_validation = groups[: len(training)], groups[len(training) :]
    asked = [facts.sizes("question_chars") > 0 for facts in (training, validation)]
    keys = (
        (training.keys("folded"), validation.keys("folded")),
        (training.keys("folded_prompt"), validation.keys("folded_prompt")),
        (in_training, in_validation),
    )
    told: NDArray[np.bool_] = np.zeros(len(validation), dtype=bool)
    for code, (theirs, ours) in zip(CODES, keys, strict=True):
        # An empty prompt is no question that could be the same.
        could = asked if code != CODES[0] else [np.ones(len(facts), dtype=bool) for facts in (training, validation)]
        mask = np.isin(ours, theirs[could[0]]) & could[1] & ~told
        told |= mask
        count = int(mask.sum())
        if not count:
            continue
        num_training = int((np.isin(theirs, ours[mask]) & could[0]).sum())
        finding = DoctorFinding(
            code=code,
            weight=_weight(code, count, len(validation)),
            count=count,
            lines=first_lines(validation.sizes("line")[mask]),
            finding=(
                f"Of {name}, {rows_of(count, len(validation), *_WORDS[code])}: {count_of(num_training, 'training row')}. "
                f"The lines are those of {name}."
            ),
            why=_WHY[code],
            cure=_CURE,
        )
        yield Draft(finding=finding)


def _weight(code: str, count: int, total: int) -> Weight:
    if code == CODES[2]:
        return Weight.WORTH_A_LOOK if count >= _SOME * total else Weight.INFORMATION
    return Weight.SERIOUS if count >= _SOME * total else Weight.WORTH_A_LOOK
