"""Answers that are labels: how they are told from texts, and what is wrong with them."""

import pytest

from luthier.core.doctor_report import Weight
from luthier.data.doctor.labels import meaning
from tests.support.doctor_files import chat, clean_rows, codes, examined, found


def _labelled(counts: dict[str, int], seed: int = 0) -> list[dict]:
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [chat(row["messages"][0]["content"], label) for row, label in zip(clean_rows(len(labels), seed), labels, strict=True)]


def test_even_labels_are_counted_and_nothing_is_wrong(tmp_path):
    report = examined(tmp_path, _labelled({"yes": 20, "no": 18}))
    assert report.statistics["labels"] == {"yes": 20, "no": 18}
    assert codes(report) == set()
    assert {"label_spelling", "label_imbalance", "rare_label"} <= set(report.checks)


@pytest.mark.parametrize("counts", [{f"answer {i}": 1 for i in range(40)}, {"only": 40}, {"a" * 41: 20, "b" * 41: 20}])
def test_these_are_no_labels(tmp_path, counts):
    report = examined(tmp_path, _labelled(counts))
    assert "labels" not in report.statistics
    assert report.skipped["label_imbalance"] == "the answers are texts, not labels"


def test_one_label_in_two_writings(tmp_path):
    report = examined(tmp_path, _labelled({"check-in": 20, "refund": 20, "Check in": 2, "refund.": 1}))
    finding = found(report, "label_spelling")
    assert (finding.count, finding.lines, finding.weight) == (3, (41, 42, 43), Weight.SERIOUS)
    assert finding.examples == ('"check-in" (20), "Check in" (2)', '"refund" (20), "refund." (1)')


def test_signs_are_labels_of_their_own():
    assert len({meaning("+"), meaning("-"), meaning("0")}) == 3
    assert meaning("Set_Alarm ") == meaning("set alarm")


def test_a_label_with_most_rows(tmp_path):
    finding = found(examined(tmp_path, _labelled({"other": 85, "fraud": 15})), "label_imbalance")
    assert (finding.count, finding.weight) == (85, Weight.WORTH_A_LOOK)
    assert '85 % of the rows (85 of 100) have the label "other"' in finding.finding
    assert '"fraud", has 15' in finding.finding


def test_answers_that_hardly_come(tmp_path):
    report = examined(tmp_path, _labelled({"positive": 30, "negative": 30, "positve": 1, "it depends on the day": 2}))
    finding = found(report, "rare_label")
    assert (finding.count, finding.lines) == (3, (61, 62, 63))
    assert "2 answers" in finding.finding


def test_a_label_that_training_never_shows(tmp_path):
    report = examined(tmp_path, _labelled({"yes": 20, "no": 20}), _labelled({"yes": 5, "no": 5, "maybe": 3}, seed=4))
    finding = found(report, "label_only_in_validation")
    assert (finding.count, finding.lines, finding.weight, finding.examples) == (3, (11, 12, 13), Weight.SERIOUS, ('"maybe"',))
