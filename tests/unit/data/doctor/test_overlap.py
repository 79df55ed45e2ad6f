"""Validation rows that training has seen; each is told once, under the closest kind."""

import pytest

from luthier.core.doctor_report import Weight
from tests.support.doctor_files import chat, clean_rows, codes, examined, found

LONG = "the quick brown fox jumps over a lazy dog while nine very old wizards watch from behind their garden wall and laugh"


def test_rows_prompts_and_near_prompts(tmp_path):
    pytest.importorskip("rensa")
    training = [*clean_rows(100), chat("Alarm at 7 o'clock", "set_alarm 7"), chat(f"{LONG} loudly", "yes")]
    first = training[0]["messages"]
    valid = [
        *clean_rows(20, seed=9),
        chat(first[0]["content"].upper(), first[1]["content"]),
        chat(training[1]["messages"][0]["content"], "something else"),
        chat("Alarm at 9 o'clock.", "set_alarm 9"),
        chat(f"{LONG} quietly", "no"),
    ]
    report = examined(tmp_path, training, valid)
    lines = {code: found(report, code).lines for code in codes(report) if code.startswith("validation")}
    assert lines == {"validation_row_in_training": (21,), "validation_prompt_in_training": (22,), "validation_near_training": (23, 24)}
    assert found(report, "validation_row_in_training").weight is Weight.SERIOUS
    assert "Of valid.jsonl, 2 rows of 24 (8.3 %) have" in found(report, "validation_near_training").finding
    assert ": 2 training rows." in found(report, "validation_near_training").finding


def test_a_group_reaches_further_than_a_pair(tmp_path):
    """The first and the last have hardly enough words in common; the one between them brings all three together."""
    pytest.importorskip("rensa")
    words = LONG.split()
    one, two, three = (" ".join([*words[:19], *tail]) for tail in (["red", "one"], ["red", "two"], ["blue", "two"]))
    training = [*clean_rows(100), chat(one, "a"), chat(two, "b")]
    report = examined(tmp_path, training, [*clean_rows(5, seed=3), chat(three, "c")])
    assert found(report, "validation_near_training").lines == (6,)
    assert ": 2 training rows." in found(report, "validation_near_training").finding


def test_files_that_are_apart(tmp_path):
    report = examined(tmp_path, clean_rows(100), clean_rows(20, seed=5))
    assert codes(report) == set()
    assert {"validation_row_in_training", "validation_prompt_in_training", "validation_near_training"} <= set(report.checks)


def test_empty_prompts_and_an_empty_file_do_not_overlap(tmp_path):
    rows = [{"prompt": "", "completion": f"text number {i} stands alone"} for i in range(12)]
    report = examined(tmp_path, rows, [{"prompt": "", "completion": "another text"}])
    assert not any(code.startswith("validation") for code in codes(report))
    report = examined(tmp_path, rows, [])
    assert report.statistics["validation"]["rows"] == 0
    assert report.statistics["validation"]["faults"]["first"] is not None


def test_without_a_validation_file_the_report_says_so(tmp_path):
    assert "--validation" in examined(tmp_path, clean_rows(12)).skipped["validation_row_in_training"]
