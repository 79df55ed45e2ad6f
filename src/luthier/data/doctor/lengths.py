"""Answers and prompts that are far longer or shorter than the others of their file.

What it does: measures in characters, by the median and the median distance from it, both of logarithms: a few giants do not move
these. What it does not: count tokens (``truncation.py``). Called by ``examine.py``.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from luthier.core.doctor_report import DoctorFinding, Weight
from luthier.data.doctor.draft import Draft, Rows, count_of, excerpt, first_lines, rows_of
from luthier.data.doctor.row_facts import RowFacts

CODES = ("long_answer", "short_answer", "long_prompt")
_LEAST_ROWS = 20
_DISTANCE = 5.0
_LEAST_SPREAD = 0.4
"""Natural logarithm: without it, one character more would be an outlier among answers that are all of one length."""
_NORMAL = 1.4826
"""The median distance times this is the standard deviation, where lengths are log-normal."""
_MANY = 0.05
"""More of them than this are not outliers but another kind of row; the finding says so by its count."""
_MIN_LONG = 1000
"""Characters: nothing shorter is long."""


def lengths(facts: RowFacts, *, is_label_task: bool) -> Iterator[Draft]:
    """Outliers of length; labels are as long as they are."""
    if len(facts) < _LEAST_ROWS:
        return
    answers, prompts = facts.sizes("answer_chars"), facts.sizes("prompt_chars")
    if not is_label_task and answers.any():
        low, median, high = _bounds(answers)
        yield from _draft(facts, CODES[0], answers, answers > max(high, _MIN_LONG), median, "longest answer")
        yield from _draft(facts, CODES[1], answers, answers < low, median, "shortest answer")
    _, median, high = _bounds(prompts)
    yield from _draft(facts, CODES[2], prompts, prompts > max(high, _MIN_LONG), median, "longest prompt")


def _bounds(sizes: NDArray[np.uint32]) -> tuple[float, float, float]:
    """The least and the greatest usual length, and the median between them."""
    logs = np.log(sizes + 1.0)
    median = float(np.median(logs))
    spread = max(_LEAST_SPREAD, _NORMAL * float(np.median(np.abs(logs - median))))
    return tuple(float(np.exp(median + way * _DISTANCE * spread) - 1) for way in (-1, 0, 1))  # type: ignore[return-value]


_CURES = {
    CODES[0]: (
        "Long answers have the most tokens and so the most weight in the loss, and may be cut at the model's length limit.",
        "Look whether they are whole documents or several rows run together; shorten or split them.",
    ),
    CODES[1]: (
        "An answer far shorter than the others is often cut off, or no answer at all.",
        "Read them; complete or remove those that are no answers.",
    ),
    CODES[2]: (
        "A prompt far longer than the others is often a whole document or several rows run together, and may leave no room for the answer.",
        "Read them; shorten or split those that are mistakes.",
    ),
}


def _draft(facts: RowFacts, code: str, sizes: NDArray[np.uint32], mask: NDArray[np.bool_], median: float, most: str) -> Iterator[Draft]:
    count = int(mask.sum())
    if not count:
        return
    short = code == CODES[1]
    order = np.flatnonzero(mask)[np.argsort(sizes[mask] if short else -sizes[mask].astype(np.int64), kind="stable")]
    shown = tuple(facts.sizes("line")[order[:3]].tolist())
    what = "prompt" if code == CODES[2] else "answer"
    extreme = int(sizes[order[0]])
    finding = DoctorFinding(
        code=code,
        weight=Weight.WORTH_A_LOOK if count < _MANY * len(facts) else Weight.INFORMATION,
        count=count,
        lines=first_lines(facts.sizes("line")[mask]),
        finding=(
            f"{rows_of(count, len(facts), 'has', 'have')} a far "
            f"{'shorter' if short else 'longer'} {what} than usual: "
            f"the {most} has {count_of(extreme, 'character')}, the median {median:,.0f}."
        ),
        why=_CURES[code][0],
        cure=_CURES[code][1],
    )

    def show(rows: Rows) -> list[str]:
        texts = ((line, rows[line].prompt if code == CODES[2] else rows[line].answer) for line in shown)
        return [f"line {line:,} ({count_of(len(text), 'character')}): {excerpt(text, 60)}" for line, text in texts]

    yield Draft(finding=finding, needs=shown, show=show)
