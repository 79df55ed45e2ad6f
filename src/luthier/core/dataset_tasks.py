"""Dataset tasks: work on files of rows that the worker does for the API. The record the office keeps of one, and its words.

What it does: names kinds and statuses, holds limits. What it does not: do the work (``worker/dataset_kinds.py``), know tables
(``storage/dataset_tasks.py``). Called by both, and by ``api``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from luthier.core.data_report import CSV_COLUMNS

SHOWN_FINDINGS = 50
"""Findings that a result holds; all of them are in the task's file of findings."""
FINDINGS_FILE = "findings.jsonl"
"""Name of that file in the task's folder."""
MAX_RESULT_BYTES = 2 * 1024 * 1024
"""Largest result, as JSON."""
QUICK_BYTES = 4 * 1024 * 1024
"""Tasks over inputs up to this size never wait behind larger ones."""
MAX_ATTEMPTS = 2
"""How often a task's process may end unexpectedly before the task fails."""


class DatasetKind(StrEnum):
    """What a task does."""

    CHECK = "check"
    """Every fault of a file."""
    DOCTOR = "doctor"
    """What is sound and still will not teach what it should: duplicates, leaks, secrets, conflicting answers."""
    FIX = "fix"
    """A repaired copy."""
    REDACT = "redact"
    """A copy without secrets and personal data."""
    SPLIT = "split"
    """A training and a validation file."""
    IMPORT = "import"
    """A training file from another format or from stored completions."""
    EXPORT = "export"
    """The rows in another tool's format."""
    PREVIEW = "preview"
    """The tokens of one row, and which of them are learned."""
    FORECAST = "forecast"
    """What a job over these files would take."""


LARGE_ANYWAY = frozenset({DatasetKind.DOCTOR, DatasetKind.FORECAST})
"""Kinds that load a model or compare every row with every other: never quick, however small the file."""

FINDING_COLUMNS: Mapping[DatasetKind, tuple[str, ...]] = {
    DatasetKind.CHECK: CSV_COLUMNS,
    DatasetKind.DOCTOR: ("code", "weight", "count", "lines", "finding", "why", "cure", "examples", "measured_on"),
}
"""Columns of the findings as CSV, for the kinds that have findings."""


class DatasetTaskStatus(StrEnum):
    """Where a task is."""

    QUEUED = "queued"
    """Waiting for the worker."""
    RUNNING = "running"
    """A process works on it."""
    COMPLETED = "completed"
    """Done: the result is there, and the files it names are."""
    FAILED = "failed"
    """Ended with an error; no file was made."""
    CANCELLED = "cancelled"
    """Ended on request; no file was made."""

    @property
    def is_final(self) -> bool:
        """True for statuses that never change again."""
        return self not in (DatasetTaskStatus.QUEUED, DatasetTaskStatus.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInput:
    """A stored file that a task reads. Its bytes are kept until the task is over, whatever becomes of the file."""

    role: str
    """The request's field that named it: ``file_id``, ``validation_file``."""
    file_id: str
    filename: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetTask:
    """A task as it stands now. Times are Unix seconds."""

    id: str
    project_id: str
    kind: DatasetKind
    options: dict[str, Any]
    """The request, without its waiting time."""
    inputs: tuple[TaskInput, ...] = ()
    created_at: int
    status: DatasetTaskStatus = DatasetTaskStatus.QUEUED
    quick: bool = False
    """True: taken by the lane that large tasks never hold up."""
    finished_at: int | None = None
    progress: dict[str, Any] | None = None
    """``{"done", "total", "unit"}``; None until there is something to tell, and at the end."""
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    """``{"code", "message", "param"}`` or None."""
    num_findings: int = 0
    """Lines in the task's file of findings."""
    fence: int = 0
    """Grows with each lease and each cancelling; a runner's write quotes it."""
    lease_owner: str | None = None
    lease_expires_at: float | None = None
    attempts: int = 0
    """Processes that ended unexpectedly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnd:
    """What a task came to."""

    status: DatasetTaskStatus
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = field(default=None)
    num_findings: int = 0
