"""One hundred broken rows of all kinds, and the reports on them, as committed in ``tests/golden/broken_rows``.

Each file begins with one sound row, which decides its format. A change of a report must be meant: renew the file by hand.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from luthier.core.data_faults import GROUPS
from luthier.core.data_report import finding_to_dict
from luthier.data.check import check_file
from luthier.data.validate import Method

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "broken_rows"
METHODS: dict[str, Method] = {
    "chat": "supervised",
    "prompt_completion": "supervised",
    "preference": "dpo",
    "reinforcement": "reinforcement",
}
MAX_LINE_BYTES = 20_000


def _report(name: str) -> dict[str, Any]:
    findings: list[dict[str, Any]] = []
    report = check_file(
        GOLDEN / f"{name}.jsonl",
        role="training",
        method=METHODS[name],
        max_line_bytes=MAX_LINE_BYTES,
        on_finding=lambda finding: findings.append(finding_to_dict(finding)),
    )
    return {**report.to_dict(), "findings": findings}


def _golden(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.report.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", METHODS)
def test_the_report_on_broken_rows_is_the_committed_one(name: str) -> None:
    assert _report(name) == _golden(name)


@pytest.mark.parametrize("name", METHODS)
def test_every_row_but_the_first_is_found(name: str) -> None:
    lines = (GOLDEN / f"{name}.jsonl").read_bytes().count(b"\n")
    assert {finding["line"] for finding in _report(name)["findings"]} == set(range(2, lines + 1))


def test_there_are_a_hundred_broken_rows_of_every_kind() -> None:
    assert sum((GOLDEN / f"{name}.jsonl").read_bytes().count(b"\n") - 1 for name in METHODS) == 100
    found = {finding["code"] for name in METHODS for finding in _golden(name)["findings"]}
    wanted = {rule.code for group in ("line", "row", "message") for rule in GROUPS[group]}
    assert wanted <= found
