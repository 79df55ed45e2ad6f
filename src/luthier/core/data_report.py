"""The report on a checked file, and its findings as JSON and as CSV cells.

What it does: counts findings by code; tells each one with line, column, path, code, sentence and cure. What it does not: find
any (``data/check.py``), or lay out a page (``cli/render/``). Called by ``data/check.py``, ``worker/check_data.py`` and the
command line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luthier.core.data_faults import RULES, Severity
from luthier.core.examples import LineError

CSV_COLUMNS = ("file", "line", "column", "path", "code", "severity", "message", "cure", "api_code")
# A spreadsheet computes a cell that begins with one of these.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def finding_to_dict(finding: LineError) -> dict[str, Any]:
    """A finding as reports carry it."""
    rule = RULES[finding.rule]
    return {
        "file": finding.source.file_id,
        "line": finding.source.line,
        "column": finding.column,
        "path": finding.path,
        "code": rule.code,
        "severity": rule.severity.value,
        "message": finding.message,
        "cure": rule.cure,
        "api_code": finding.code,
    }


def csv_cells(finding: Mapping[str, Any], columns: Sequence[str] = CSV_COLUMNS) -> list[str]:
    """The cells of one finding, in the order of the columns; none of them is a formula to a spreadsheet."""
    return [_safe(finding[name]) for name in columns]


def _safe(value: object) -> str:
    if value is None:
        return ""
    text = " ".join(str(one) for one in value) if isinstance(value, list | tuple) else str(value)
    # The apostrophe is what spreadsheets themselves write before text that looks like a formula.
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


@dataclass(slots=True, kw_only=True)
class DataReport:
    """What was found in one file. The findings themselves are told one by one, because there may be millions."""

    file: str
    bytes: int
    role: str
    method: str | None = None
    """``supervised``, ``dpo`` or ``reinforcement``; None when no row could be read."""
    format: str | None = None
    """A ``RowFormat`` value; None when no row could be read."""
    num_lines: int = 0
    """Lines that hold more than white space, as far as the file was read."""
    num_faulty_rows: int = 0
    num_faults: int = 0
    num_warnings: int = 0
    by_code: dict[str, dict[str, int]] = field(default_factory=dict)
    """Code -> how often, and the first line."""
    counts: dict[str, Any] = field(default_factory=dict)
    """What is sound: see ``data/statistics.py``."""
    error: dict[str, str] | None = None
    """``job.error`` as a job with this file would end, or None."""

    def add(self, finding: LineError) -> None:
        """Count a finding."""
        entry = self.by_code.setdefault(finding.rule, {"count": 0, "first_line": finding.source.line})
        entry["count"] += 1
        if RULES[finding.rule].severity is Severity.WARNING:
            self.num_warnings += 1
            return
        self.num_faults += 1
        if self.error is None:
            self.error = job_error(finding, self.role)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON, without its findings."""
        return {
            "object": "luthier.data_report",
            "file": self.file,
            "role": self.role,
            "bytes": self.bytes,
            "ok": not self.num_faults,
            "method": self.method,
            "format": self.format,
            "num_lines": self.num_lines,
            "num_faulty_rows": self.num_faulty_rows,
            "num_faults": self.num_faults,
            "num_warnings": self.num_warnings,
            "by_code": self.by_code,
            "counts": self.counts,
            "error": self.error,
        }


def job_error(finding: LineError, role: str) -> dict[str, str]:
    """``job.error`` of a job that fails over this finding, in OpenAI's words (reference, section 3.6)."""
    if finding.code == "invalid_n_examples":
        return {"code": finding.code, "message": finding.message, "param": f"{role}_file"}
    if finding.code == "invalid_file_format":
        lead = f"The job failed due to a file format error in the {role} file."
    else:
        lead = f"The job failed due to an invalid {role} file."
    return {"code": finding.code, "message": f"{lead} Invalid file format. {finding.message}", "param": f"{role}_file"}
