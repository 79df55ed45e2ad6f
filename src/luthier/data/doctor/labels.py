"""Answers that are labels: whether they are, how many rows each has, and which are written in two ways.

What it does not: split (``data/split.py`` does, label by label). Called by ``examine.py``.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from luthier.core.doctor_report import DoctorFinding, Weight
from luthier.data.doctor.draft import Draft, count_of, excerpt, first_lines, rows_of, share_of
from luthier.data.doctor.row_facts import RowFacts, answer_key

CODES = ("label_spelling", "label_imbalance", "rare_label")
VALIDATION_CODE = "label_only_in_validation"
MAX_LABELS = 1000
_FREQUENT = 3
"""An answer that comes this often may be a label."""
_COVERED = 0.9
"""Answers are labels when the frequent ones are this share of all rows."""
_LEAST_PER_LABEL = 5
"""Rows that a label needs; also how many of each there are at least on average, or else answers repeat by chance."""
_LARGEST_SHARE, _LARGEST_RATIO = 0.8, 20


@dataclass(frozen=True, slots=True)
class LabelTask:
    """The answers of a file whose answers are labels."""

    counts: Mapping[str, int]
    """Answer, as it is written -> rows, the most frequent first; rare ones too."""


def label_task(facts: RowFacts) -> LabelTask | None:
    """The labels, or None where the answers are texts."""
    answers = facts.short_answers
    if not answers:
        return None
    by_meaning: Counter[str] = Counter()
    for answer, count in answers.items():
        by_meaning[meaning(answer)] += count
    frequent = {label: count for label, count in by_meaning.items() if count >= _FREQUENT}
    covered = sum(frequent.values())
    if not 1 < len(frequent) <= MAX_LABELS or covered < _COVERED * len(facts) or covered < _LEAST_PER_LABEL * len(frequent):
        return None
    return LabelTask(dict(sorted(answers.items(), key=lambda entry: (-entry[1], entry[0]))))


def meaning(label: str) -> str:
    """The letters and digits of a label: what is left when it is the same label written in another way."""
    folded = label.casefold()
    return "".join(mark for mark in folded if mark.isalnum()) or folded


def labels(facts: RowFacts, task: LabelTask) -> Iterator[Draft]:
    """Labels written in two ways, an uneven share, and labels with hardly a row."""
    ways: dict[str, list[str]] = {}
    for label in task.counts:
        ways.setdefault(meaning(label), []).append(label)
    twice = [written for written in ways.values() if len(written) > 1]
    if twice:
        yield Draft(finding=_spelling(facts, task, twice))
    counts = {written[0]: sum(task.counts[label] for label in written) for written in ways.values()}
    largest = max(counts, key=lambda label: counts[label])
    common = {label: count for label, count in counts.items() if count >= _LEAST_PER_LABEL}
    rare = [label for label in counts if label not in common]
    if common and (counts[largest] > _LARGEST_SHARE * len(facts) or counts[largest] >= _LARGEST_RATIO * min(common.values())):
        yield Draft(finding=_imbalance(facts, counts[largest], largest, common))
    if rare:
        yield Draft(finding=_rare(facts, counts, rare))


def only_in_validation(facts: RowFacts, task: LabelTask, validation: RowFacts, name: str) -> Iterator[Draft]:
    """Labels that the validation file asks for and the training file never shows."""
    missing = [label for label in validation.short_answers or () if label not in task.counts]
    if not missing:
        return
    rows = np.isin(validation.keys("answer"), np.array([answer_key(label) for label in missing], dtype=np.uint64))
    count = int(rows.sum())
    finding = DoctorFinding(
        code=VALIDATION_CODE,
        weight=Weight.SERIOUS,
        count=count,
        lines=first_lines(validation.sizes("line")[rows]),
        finding=(
            f"Of {name}, {rows_of(count, len(validation), 'asks', 'ask')} for {count_of(len(missing), 'label')} that no training "
            f"row has. The lines are those of {name}."
        ),
        why="What was never shown cannot be learned: these rows count as errors whatever the model is.",
        cure="Give every label training rows, or correct its spelling; luthier data split gives each label its share.",
        examples=tuple(excerpt(label, masked=False) for label in missing[:3]),
    )
    yield Draft(finding=finding)


def _rows_with(facts: RowFacts, answers: list[str]) -> tuple[int, ...]:
    mask = np.isin(facts.keys("answer"), np.array([answer_key(answer) for answer in answers], dtype=np.uint64))
    return first_lines(facts.sizes("line")[mask])


def _spelling(facts: RowFacts, task: LabelTask, twice: list[list[str]]) -> DoctorFinding:
    others = [label for written in twice for label in written[1:]]
    count = sum(task.counts[label] for label in others)
    return DoctorFinding(
        code=CODES[0],
        weight=Weight.SERIOUS,
        count=count,
        lines=_rows_with(facts, others),
        finding=(
            f"{count_of(len(twice), 'label')} {'is' if len(twice) == 1 else 'are'} written in more than one way "
            f"(case, spaces or punctuation); {count_of(count, 'row')} {'has' if count == 1 else 'have'} the rarer writing."
        ),
        why="To the model two writings are two labels, and a comparison with the expected answer counts one of them as wrong.",
        cure="Write each label in one way.",
        examples=tuple(
            ", ".join(f"{excerpt(label, masked=False)} ({task.counts[label]:,})" for label in written[:4]) for written in twice[:3]
        ),
    )


def _imbalance(facts: RowFacts, most: int, largest: str, common: Mapping[str, int]) -> DoctorFinding:
    least = min(common, key=lambda label: common[label])
    return DoctorFinding(
        code=CODES[1],
        weight=Weight.WORTH_A_LOOK,
        count=most,
        lines=_rows_with(facts, [largest]),
        finding=(
            f"{share_of(most, len(facts))} of the rows ({most:,} of {len(facts):,}) have the label {excerpt(largest, masked=False)}; "
            f"the rarest of {count_of(len(common), 'label')} with at least {_LEAST_PER_LABEL} rows, {excerpt(least, masked=False)}, "
            f"has {common[least]:,}."
        ),
        why="A model can score well by always giving the most frequent label, and learns little of the rare ones.",
        cure="Add rows for the rare labels, or drop some of the frequent one; judge the result label by label.",
        examples=tuple(f"{excerpt(label, masked=False)}: {count_of(common[label], 'row')}" for label in (largest, least)),
    )


def _rare(facts: RowFacts, counts: Mapping[str, int], rare: list[str]) -> DoctorFinding:
    count = sum(counts[label] for label in rare)
    return DoctorFinding(
        code=CODES[2],
        weight=Weight.WORTH_A_LOOK,
        count=count,
        lines=_rows_with(facts, rare),
        finding=(
            f"{count_of(len(rare), 'answer')} of this task of labels {'comes' if len(rare) == 1 else 'come'} fewer than {_LEAST_PER_LABEL} "
            f"times, in {count_of(count, 'row')} together."
        ),
        why="Such an answer is a slip of the pen, a row of another task, or a label with too little to learn from.",
        cure="Correct the slips; give each label that is meant more rows.",
        examples=tuple(f"{excerpt(label, masked=False)}: {count_of(counts[label], 'row')}" for label in rare[:3]),
    )
