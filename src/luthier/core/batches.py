"""Batches: the record the office keeps of one, and where each status may go.

What it does: names statuses and moves, holds the limits of a batch's file. What it does not: read files or run requests
(``api/batches``), know tables (``storage/batches.py``). Called by both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

MAX_REQUESTS = 50_000
"""Most lines of a batch's file."""
WINDOW_SECONDS = 24 * 3600
"""How long a batch has; what is not answered by then is answered with ``batch_expired``."""
FILE_SECONDS = 30 * 24 * 3600
"""How long output and error files live unless the batch said otherwise."""
OUTPUT_PURPOSE = "batch_output"
"""Purpose of both files."""


class BatchStatus(StrEnum):
    """Where a batch is. ``MOVES`` says where it may go."""

    VALIDATING = "validating"
    """Created; its file is waiting to be checked, or being checked."""
    FAILED = "failed"
    """Its file is faulty; nothing of it was run."""
    IN_PROGRESS = "in_progress"
    """Its requests are being answered."""
    FINALIZING = "finalizing"
    """All are answered; its files are being made."""
    COMPLETED = "completed"
    """Done."""
    EXPIRED = "expired"
    """Its window ended before its last request was answered."""
    CANCELLING = "cancelling"
    """Asked to stop; requests under way end first."""
    CANCELLED = "cancelled"
    """Stopped; what was answered stands in its files."""

    @property
    def is_final(self) -> bool:
        """True for statuses that never change again."""
        return not MOVES[self]


MOVES: Mapping[BatchStatus, frozenset[BatchStatus]] = MappingProxyType(
    {
        BatchStatus.VALIDATING: frozenset({BatchStatus.IN_PROGRESS, BatchStatus.FAILED, BatchStatus.CANCELLING, BatchStatus.EXPIRED}),
        BatchStatus.IN_PROGRESS: frozenset({BatchStatus.FINALIZING, BatchStatus.CANCELLING, BatchStatus.EXPIRED}),
        BatchStatus.FINALIZING: frozenset({BatchStatus.COMPLETED}),
        BatchStatus.CANCELLING: frozenset({BatchStatus.CANCELLED}),
        BatchStatus.COMPLETED: frozenset(),
        BatchStatus.FAILED: frozenset(),
        BatchStatus.EXPIRED: frozenset(),
        BatchStatus.CANCELLED: frozenset(),
    }
)
"""Where each status may go. ``storage/batches.py`` refuses every other move."""

ACTIVE = tuple(status for status in BatchStatus if not status.is_final)
"""Statuses of batches that somebody still has to work on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFault:
    """What is wrong with a line of a batch's file, or with the file (no line)."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None
    """From 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of all answers of a batch."""

    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(input_tokens=self.input_tokens + other.input_tokens, output_tokens=self.output_tokens + other.output_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """A batch. Times are Unix seconds, None until they come."""

    id: str
    project_id: str
    endpoint: str
    input_file_id: str
    input_sha256: str
    created_at: int
    expires_at: int
    status: BatchStatus = BatchStatus.VALIDATING
    model: str | None = None
    """The model of all its requests, known once the file is checked."""
    metadata: dict[str, str] | None = None
    file_seconds: int = FILE_SECONDS
    """How long its files live."""
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    num_total: int = 0
    num_completed: int = 0
    num_failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: tuple[Mapping[str, Any], ...] = field(default=())
    """Of a failed batch: code, message, param and line of each."""
