"""Rows as detectors see them, and detectors run over a few.

What it does: makes rows of questions and answers, and gives the findings by their codes. What it does not: read files.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from luthier.core.doctor_report import DoctorFinding
from luthier.core.examples import RowFormat
from luthier.data.detectors.seen_row import Detector
from luthier.data.doctor.row import DoctorRow, row_of


def chat(line: int, *messages: Mapping[str, Any]) -> DoctorRow:
    """A chat row."""
    return row_of({"messages": list(messages)}, RowFormat.CHAT, line)


def asked(question: str, answer: str, line: int = 1) -> DoctorRow:
    """A row of one question and one answer."""
    return chat(line, {"role": "user", "content": question}, {"role": "assistant", "content": answer})


def answers(*texts: str) -> list[DoctorRow]:
    """Rows with these answers, from line 1."""
    return [asked("What is it?", text, line) for line, text in enumerate(texts, start=1)]


def found(detector: Detector, rows: Iterable[DoctorRow]) -> dict[str, DoctorFinding]:
    """What a detector finds in rows, by code."""
    for row in rows:
        detector.see(row)
    findings = list(detector.findings())
    by_code = {finding.code: finding for finding in findings}
    assert len(by_code) == len(findings)
    assert set(by_code) <= set(detector.codes)
    return by_code
