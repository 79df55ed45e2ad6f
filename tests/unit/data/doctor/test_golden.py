"""Files that are sick on purpose, and the doctor's reports on them, as committed in ``tests/golden/doctor``.

A change of a report must be meant: renew the file by hand (``report_on`` makes what it holds). Detectors are not part of it.
"""

import json
from pathlib import Path
from typing import Any

import pytest

import luthier
from luthier.chat.renderer import Renderer
from luthier.data.doctor import answers, conflicts, duplicates, labels, lengths, overlap, truncation, turns
from luthier.data.doctor.examine import examine

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "doctor"
NAMES = ("labels", "talks", "constant", "silent", "preferences")
CODES = {
    *duplicates.CODES,
    duplicates.NEAR_CODE,
    *conflicts.CODES,
    *conflicts.PREFERENCE_CODES,
    *labels.CODES,
    labels.VALIDATION_CODE,
    *answers.CODES,
    *lengths.CODES,
    *turns.CODES,
    turns.SYSTEM_CODE,
    *overlap.CODES,
    truncation.CODES[0],
}


def report_on(name: str) -> dict[str, Any]:
    """What a golden file must hold."""
    pytest.importorskip("rensa")
    mini = Path(luthier.__file__).parent / "models" / "builtin" / "luthier-mini"
    base = truncation.Base(name="luthier-mini", renderer=Renderer.load(mini), max_length=512)
    validation = GOLDEN / f"{name}.valid.jsonl"
    options = {"validation": validation if validation.exists() else None, "bases": [base], "detectors": ()}
    return examine(GOLDEN / f"{name}.jsonl", **options).to_dict()


def _golden(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.report.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_the_report_on_a_sick_file_is_the_committed_one(name: str) -> None:
    assert report_on(name) == _golden(name)


def test_every_check_finds_something_in_one_of_them() -> None:
    assert {finding["code"] for name in NAMES for finding in _golden(name)["findings"]} == CODES
