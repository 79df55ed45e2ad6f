"""What holds for the doctor whatever the file is: copies count exactly, order counts for nothing, clean files are clean."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.core.doctor_report import DoctorReport, Weight
from tests.support.doctor_files import chat, clean_rows, examined

_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=30)
_ROLES = st.lists(st.sampled_from(["system", "user", "assistant"]), max_size=4)


@st.composite
def _row(draw: st.DrawFn) -> dict:
    if draw(st.booleans()):
        return chat(
            draw(st.sampled_from(["What?", "what? ", "Why", "How much is 7?", "How much is 8?"])), draw(st.sampled_from(["a", "A", "b"]))
        )
    messages = [{"role": role, "content": draw(_TEXT)} for role in [*draw(_ROLES), "assistant"]]
    return {"messages": messages}


_ROWS = st.lists(_row(), min_size=1, max_size=25)


def _examined(rows: list, valid: list | None = None) -> DoctorReport:
    with tempfile.TemporaryDirectory() as folder:
        return examined(Path(folder), rows, valid)


def _counts(report: DoctorReport) -> dict[str, int]:
    return {finding.code: finding.count for finding in report.findings}


@settings(max_examples=60, deadline=None)
@given(rows=_ROWS, which=st.integers(min_value=0), times=st.integers(1, 4))
def test_a_copy_more_is_one_more_copy(rows, which, times):
    before = _counts(_examined(rows)).get("exact_duplicate", 0)
    after = _counts(_examined([*rows, *[rows[which % len(rows)]] * times]))
    assert after["exact_duplicate"] == before + times


@settings(max_examples=60, deadline=None)
@given(rows=_ROWS, valid=_ROWS, order=st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_no_count(rows, valid, order):
    before = _examined(rows, valid)
    order.shuffle(rows)
    order.shuffle(valid)
    after = _examined(rows, valid)
    assert _counts(after) == _counts(before)
    assert after.checks == before.checks


@settings(max_examples=60, deadline=None)
@given(rows=_ROWS, valid=_ROWS)
def test_every_finding_is_whole(rows, valid):
    report = _examined(rows, valid)
    for finding in report.findings:
        assert finding.count >= 1
        assert len(finding.lines) == min(finding.count, 50)
        assert list(finding.lines) == sorted(set(finding.lines))
        lines = len(valid) if finding.code.endswith(("_training", "_validation")) else len(rows)
        assert 1 <= finding.lines[0] <= finding.lines[-1] <= lines
        assert finding.finding.isprintable()
        assert finding.finding.endswith(".")
        assert all(example.isprintable() for example in finding.examples)
        assert finding.code in report.checks
        assert finding.code not in report.skipped


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(10, 120))
def test_a_clean_file_has_nothing_serious(seed, count):
    rows = clean_rows(count + 20, seed)
    report = _examined(rows[:count], rows[count:])
    assert not [finding for finding in report.findings if finding.weight is not Weight.INFORMATION]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), moved=st.integers(1, 10))
def test_rows_that_move_into_training_are_found_there(seed, moved):
    rows = clean_rows(60, seed)
    counts = _counts(_examined([*rows[:50], *rows[50 : 50 + moved]], rows[50:]))
    assert counts["validation_row_in_training"] == moved


EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("folder", sorted(path.parent for path in EXAMPLES.glob("*/train.jsonl")), ids=lambda path: path.name)
def test_the_examples_have_nothing_serious(folder):
    from luthier.data.doctor.examine import examine

    method = "reinforcement" if (folder / "grader.json").exists() else None
    report = examine(folder / "train.jsonl", validation=folder / "valid.jsonl", method=method, detectors=())
    assert report.num_rows >= 100
    assert not [finding.finding for finding in report.findings if finding.weight is Weight.SERIOUS]
