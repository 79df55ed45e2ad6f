"""All detectors together: over the shipped examples, over a row with everything, and without their libraries."""

import importlib
from pathlib import Path
from typing import Any

import orjson
import pytest

from luthier.core.doctor_report import MAX_EXAMPLES, DoctorFinding
from luthier.data.detectors import all_detectors
from luthier.data.detectors.language_mix import LanguageMix, identifier
from luthier.data.doctor.row import DoctorRow, row_of
from luthier.data.validate import format_of, method_of
from tests.support.doctor_rows import asked

EXAMPLES = Path(__file__).resolve().parents[4] / "examples"
LANGUAGES = identifier()
FILES = sorted(path for path in EXAMPLES.glob("*/*.jsonl") if path.stem in ("train", "valid"))
SECRET = "sk" + "-luthier-" + "aB3xK9mQ7pL2wE5rT8yU1iO4sD6fG0hJaB3xK9mQ"


def _found(rows: list[DoctorRow]) -> list[DoctorFinding]:
    detectors, skipped = all_detectors()
    assert skipped == {}
    assert LANGUAGES is not None
    detectors[-1] = LanguageMix(LANGUAGES)  # its model takes seconds to read: once is enough
    for row in rows:
        for detector in detectors:
            detector.see(row)
    return [finding for detector in detectors for finding in detector.findings()]


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}-{path.stem}" for path in FILES])
def test_the_shipped_examples_have_nothing_but_their_languages(path: Path) -> None:
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        row = orjson.loads(line)
        method = "reinforcement" if "reference_answer" in row else method_of(row)
        rows.append(row_of(row, format_of(row, method), number))
    assert {finding.code for finding in _found(rows)} <= {"language_mix"}


def test_a_private_value_is_never_shown_whole_or_in_part_that_tells_it() -> None:
    values = [SECRET, "ann.lee@mail.org", "+33 6 12 34 56 78", "4539 1488 0343 6467", "DE89370400440532013000", "81.2.69.142", "536-90-4399"]
    findings = _found([asked(f"Remember {value} for me, it is <b>mine</b>.", f"I'm sorry, but I can't help with {value}.", 7) for value in values])
    assert {"secret", "email_address", "phone_number", "payment_card", "iban", "ip_address", "national_id"} <= {f.code for f in findings}
    for finding in findings:
        assert len(finding.examples) <= MAX_EXAMPLES
        shown = " ".join((finding.finding, *finding.examples))
        for value in values:
            assert value not in shown
            assert value[4:12] not in shown
    (secret,) = (finding for finding in findings if finding.code == "secret")
    assert secret.examples == ("API key: sk-l... (51 characters)",)
    assert "luthier data redact" in secret.cure


def test_a_row_with_two_of_a_kind_counts_once() -> None:
    findings = {finding.code: finding for finding in _found([asked("ann@mail.org and bob@mail.org", "ok", 3), asked("eve@mail.org", "ok", 5)])}
    assert (findings["email_address"].count, findings["email_address"].lines) == (2, (3, 5))


def test_codes_are_told_once_each() -> None:
    detectors, _ = all_detectors()
    codes = [code for detector in detectors for code in detector.codes]
    assert len(codes) == len(set(codes)) == 23


@pytest.mark.parametrize(
    ("library", "codes"),
    [
        ("detect_secrets", {"secret"}),
        ("phonenumbers", {"phone_number"}),
        ("py3langid", {"language_mix", "answer_language"}),
    ],
)
def test_what_a_missing_library_is_for_is_skipped_with_the_reason(library: str, codes: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if name.partition(".")[0] == library:
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    detectors, skipped = all_detectors()
    assert set(skipped) == codes
    assert codes.isdisjoint(code for detector in detectors for code in detector.codes)
    assert all("pip install 'luthier[data]'" in reason for reason in skipped.values())
