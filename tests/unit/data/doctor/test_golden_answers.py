"""A file of sick answers, and the whole report on it, detectors and a strict chat template included, as committed.

A change of the report must be meant: renew ``tests/golden/doctor/answers.report.json`` by hand (``report_on_answers`` makes what it holds).
"""

import json
from typing import Any

import pytest

from luthier.data.detectors import all_detectors
from luthier.data.doctor.examine import examine
from luthier.data.doctor.truncation import Base
from tests.support.template_families import renderer_of
from tests.unit.data.doctor.test_golden import GOLDEN

SICK = {"frequent_answer", "template_refuses", "unfinished_answer", "truncated_json", "literal_escape", "answer_language"}


def report_on_answers() -> dict[str, Any]:
    """What the golden file must hold."""
    detectors, skipped = all_detectors()
    if skipped:
        pytest.skip(f"a library is missing: {skipped}")
    base = Base(name="gemma", renderer=renderer_of("gemma"), max_length=2048)
    return examine(GOLDEN / "answers.jsonl", bases=[base], detectors=detectors).to_dict()


def test_the_report_on_sick_answers_is_the_committed_one() -> None:
    report = report_on_answers()
    assert {finding["code"] for finding in report["findings"]} >= SICK
    assert all(finding["count"] and finding["why"] and finding["cure"] for finding in report["findings"])
    assert report == json.loads((GOLDEN / "answers.report.json").read_text(encoding="utf-8"))
