"""Copies: to the byte, but for case and spaces, nearly; each is counted once, and only there."""

import orjson
import pytest

from luthier.core.doctor_report import Weight
from luthier.data.doctor import examine as module
from tests.support.doctor_files import chat, clean_rows, codes, examined, found

LONG = "the quick brown fox jumps over a lazy dog while nine very old wizards watch from behind their garden wall and laugh"


def test_copies_to_the_byte_are_counted_after_the_first(tmp_path):
    rows = clean_rows(30)
    report = examined(tmp_path, [*rows, rows[3], rows[3], rows[5]])
    finding = found(report, "exact_duplicate")
    assert (finding.count, finding.lines, finding.weight) == (3, (31, 32, 33), Weight.WORTH_A_LOOK)
    assert finding.finding == "3 rows of 33 (9.1 %) repeat an earlier one to the byte."
    assert finding.examples[0].startswith("line 31: ")
    assert codes(report) == {"exact_duplicate"}


def test_many_copies_are_serious(tmp_path):
    rows = clean_rows(30)
    assert found(examined(tmp_path, rows + rows[:10]), "exact_duplicate").weight is Weight.SERIOUS


def test_copies_but_for_case_spaces_and_the_writing_of_json(tmp_path):
    rows = clean_rows(30)
    question, answer = (message["content"] for message in rows[0]["messages"])
    spaced = orjson.dumps(rows[1], option=orjson.OPT_INDENT_2).replace(b"\n", b" ")
    report = examined(tmp_path, [*rows, chat(f"  {question.upper()}", answer.replace(" ", "  ")), spaced, rows[2]])
    assert (found(report, "folded_duplicate").lines, found(report, "exact_duplicate").lines) == ((31, 32), (33,))
    assert "near_duplicate" not in codes(report)


def test_rows_that_offer_other_tools_are_no_copies(tmp_path):
    def tools(name: str) -> list[dict]:
        return [{"type": "function", "function": {"name": name}}]

    row = clean_rows(1)[0]
    report = examined(tmp_path, [*clean_rows(20, seed=1), {**row, "tools": tools("a")}, {**row, "tools": tools("b")}])
    assert codes(report).isdisjoint({"exact_duplicate", "folded_duplicate"})


def test_near_copies_are_groups_with_their_largest_named(tmp_path):
    pytest.importorskip("rensa")
    rows = clean_rows(100)
    near = [chat(f"{LONG} {word}", "an answer that all of them have in common") for word in ("loudly", "quietly", "softly")]
    report = examined(tmp_path, [*rows[:10], near[0], *rows[10:20], near[1], *rows[20:], near[2]])
    finding = found(report, "near_duplicate")
    assert (finding.count, finding.lines, finding.weight) == (2, (22, 103), Weight.INFORMATION)
    assert "they make 1 group, the largest of 3 rows (lines 11, 22 and 103)" in finding.finding
    assert len(finding.examples) == 3


def test_without_the_library_the_report_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "minhash", lambda: None)
    rows = [*clean_rows(20), *(chat(f"{LONG} {word}", "yes") for word in ("loudly", "quietly"))]
    report = examined(tmp_path, rows, rows[:3])
    assert "near_duplicate" not in codes(report)
    assert "pip install 'luthier[data]'" in report.skipped["near_duplicate"]
    assert "pip install 'luthier[data]'" in report.skipped["validation_near_training"]
    assert found(report, "validation_row_in_training").count == 3
