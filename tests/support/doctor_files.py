"""Small training files for the doctor's tests, and what it finds in them."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from luthier.core.doctor_report import DoctorFinding, DoctorReport
from luthier.data.doctor.examine import examine

_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "qui", "ro", "su", "ta", "ve", "wi", "xo", "zu")


def chat(question: str, answer: str, system: str | None = None) -> dict[str, Any]:
    """A chat row."""
    before = [] if system is None else [{"role": "system", "content": system}]
    return {"messages": [*before, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def words(draw: random.Random, count: int) -> str:
    """Words that mean nothing, out of 8,000."""
    return " ".join("".join(draw.choices(_SYLLABLES, k=3)) for _ in range(count))


def clean_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Chat rows that have nothing to do with each other."""
    draw = random.Random(seed)
    return [chat(words(draw, 12), words(draw, 15)) for _ in range(count)]


def write(path: Path, rows: Sequence[Any]) -> Path:
    """A file of these rows; bytes are written as they are."""
    path.write_bytes(b"".join((row if isinstance(row, bytes) else orjson.dumps(row)) + b"\n" for row in rows))
    return path


def examined(folder: Path, rows: Sequence[Any], valid: Sequence[Any] | None = None, **options: Any) -> DoctorReport:
    """What the doctor says of these rows, without detectors."""
    validation = None if valid is None else write(folder / "valid.jsonl", valid)
    return examine(write(folder / "train.jsonl", rows), validation=validation, **{"detectors": (), **options})


def found(report: DoctorReport, code: str) -> DoctorFinding:
    """The one finding with this code."""
    (finding,) = [finding for finding in report.findings if finding.code == code]
    return finding


def codes(report: DoctorReport) -> set[str]:
    """The codes of all findings."""
    return {finding.code for finding in report.findings}
