"""Findings as CSV cells that no spreadsheet computes; the list of codes, and the guide that repeats it."""

import re
from pathlib import Path

import pytest

from luthier.core.data_faults import GROUPS, RULES
from luthier.core.data_report import CSV_COLUMNS, DataReport, csv_cells, finding_to_dict
from luthier.core.examples import LineError, SourceLine

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "check-your-data.md"


def _finding(**changes: str) -> LineError:
    values = {"code": "invalid_file_format", "message": "Example 3 is missing key 'input'.", "path": "input", "rule": "missing_key"}
    return LineError(source=SourceLine("f.jsonl", 3), column=1, **{**values, **changes})


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_a_cell_that_looks_like_a_formula_is_text(start: str) -> None:
    cells = csv_cells(finding_to_dict(_finding(path=f"{start}cmd|' /C calc'!A0")))
    assert cells[CSV_COLUMNS.index("path")] == f"'{start}cmd|' /C calc'!A0"


def test_ordinary_cells_are_left_as_they_are() -> None:
    cells = dict(zip(CSV_COLUMNS, csv_cells(finding_to_dict(_finding())), strict=True))
    assert cells == {
        "file": "f.jsonl",
        "line": "3",
        "column": "1",
        "path": "input",
        "code": "missing_key",
        "severity": "error",
        "message": "Example 3 is missing key 'input'.",
        "cure": "Add the key.",
        "api_code": "invalid_file_format",
    }


def test_warnings_are_counted_apart_and_fail_no_job() -> None:
    report = DataReport(file="f.jsonl", bytes=1, role="training")
    report.add(_finding(rule="duplicate_key"))
    assert (report.num_faults, report.num_warnings, report.error) == (0, 1, None)
    report.add(_finding())
    report.add(_finding(message="later"))
    assert (report.num_faults, report.by_code["missing_key"]) == (2, {"count": 2, "first_line": 3})
    assert report.error is not None
    assert report.error["message"].endswith("Invalid file format. Example 3 is missing key 'input'.")


def test_codes_are_unique_and_every_rule_is_a_sentence_with_a_cure() -> None:
    assert len(RULES) == sum(map(len, GROUPS.values()))
    for rule in RULES.values():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", rule.code)
        assert rule.meaning.endswith(".")
        assert rule.cure.endswith((".", '"'))


def test_the_guide_lists_every_code_with_its_words() -> None:
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| (.*) \| (.*) \|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    shown = {code: (meaning.removeprefix("Warning: "), cure) for code, meaning, cure in rows}
    assert shown == {rule.code: (rule.meaning, rule.cure) for rule in RULES.values()}
    assert {code for code, meaning, _ in rows if meaning.startswith("Warning: ")} == {
        rule.code for rule in RULES.values() if rule.severity == "warning"
    }
