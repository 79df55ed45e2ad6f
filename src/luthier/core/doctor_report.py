"""The report on what a file would teach a model: findings that are advice, with lines, reasons and cures.

What it does: the finding and the report as values, and as JSON. What it does not: find any (``data/doctor``, ``data/detectors``,
``worker``), or lay out a page (``cli/render``). Called by all of these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MAX_LINES = 50
"""A finding names no more lines than this; ``count`` tells how many there are."""
MAX_EXAMPLES = 3


class Weight(StrEnum):
    """How much a finding matters, the most first."""

    SERIOUS = "serious"
    """The job will likely learn the wrong thing, or something leaks."""
    WORTH_A_LOOK = "worth_a_look"
    INFORMATION = "information"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorFinding:
    """One thing that a file has, over all its rows."""

    code: str
    """Stable, in snake case: ``exact_duplicate``."""
    weight: Weight
    count: int
    """Rows concerned, or groups of them: ``finding`` says which."""
    lines: tuple[int, ...]
    """The first 1-based lines of the file, ascending, at most ``MAX_LINES``."""
    finding: str
    """One plain sentence with the numbers."""
    why: str
    """Why it matters, one sentence."""
    cure: str
    """What to do, one sentence; it names the command where there is one."""
    examples: tuple[str, ...] = ()
    """At most ``MAX_EXAMPLES`` short excerpts that are safe to show; secrets are masked."""
    measured_on: int | None = None
    """Rows that were looked at where these are a sample, else None."""

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON."""
        return {
            "code": self.code,
            "weight": self.weight.value,
            "count": self.count,
            "lines": list(self.lines),
            "finding": self.finding,
            "why": self.why,
            "cure": self.cure,
            "examples": list(self.examples),
            "measured_on": self.measured_on,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """What was found in one file."""

    file: str
    """Its name, without the folder."""
    num_rows: int
    """Rows that were examined: sound ones only."""
    row_format: str
    """A ``RowFormat`` value; empty when no row could be read."""
    findings: tuple[DoctorFinding, ...]
    """The weightiest first."""
    checks: tuple[str, ...]
    """Codes of all checks that ran, whether they found something or not."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Check -> why it did not run: a library is missing, no model or no validation file was given."""
    statistics: Mapping[str, Any] = field(default_factory=dict)

    def num_serious(self) -> int:
        """How many findings are serious."""
        return sum(finding.weight is Weight.SERIOUS for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "object": "luthier.doctor_report",
            "file": self.file,
            "num_rows": self.num_rows,
            "format": self.row_format or None,
            "num_findings": len(self.findings),
            "num_serious": self.num_serious(),
            "findings": [finding.to_dict() for finding in self.findings],
            "checks": list(self.checks),
            "skipped": dict(self.skipped),
            "statistics": dict(self.statistics),
        }
