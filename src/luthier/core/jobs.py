"""The records the office keeps: files, jobs, events, checkpoints, models. Frozen; ``storage`` reads and writes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class JobStatus(StrEnum):
    """Where a fine-tuning job is. ``ALLOWED_MOVES`` says where it may go."""

    VALIDATING_FILES = "validating_files"
    """Created; its files are waiting to be read, or being read."""
    QUEUED = "queued"
    """Files are good; waiting for a trainer."""
    RUNNING = "running"
    """A trainer has it, or will again after a crash."""
    PAUSED = "paused"
    """Stopped on request; goes on from its newest resume state when it is resumed."""
    SUCCEEDED = "succeeded"
    """Done: ``fine_tuned_model`` answers."""
    FAILED = "failed"
    """Ended with an error."""
    CANCELLED = "cancelled"
    """Ended on request."""

    @property
    def is_final(self) -> bool:
        """True for statuses that never change again."""
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


ALLOWED_MOVES: Mapping[JobStatus, frozenset[JobStatus]] = MappingProxyType(
    {
        JobStatus.VALIDATING_FILES: frozenset({JobStatus.QUEUED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.PAUSED}),
        JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.PAUSED}),
        JobStatus.RUNNING: frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.PAUSED}),
        JobStatus.PAUSED: frozenset({JobStatus.VALIDATING_FILES, JobStatus.QUEUED, JobStatus.CANCELLED}),
        JobStatus.SUCCEEDED: frozenset(),
        JobStatus.FAILED: frozenset(),
        JobStatus.CANCELLED: frozenset(),
    }
)
"""Where each status may go. ``jobs/lifecycle.py`` decides by it, ``storage/jobs.py`` refuses what is not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A stored file. The bytes lie in the blob store under ``sha256``."""

    id: str
    filename: str
    purpose: str
    bytes: int
    sha256: str
    created_at: int
    status: str = "processed"
    expires_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A fine-tuning job as it stands now."""

    id: str
    created_at: int
    model: str
    """The name that was asked for (dated snapshot for an undated OpenAI name)."""
    base: str
    """The open base model that really trains."""
    parent_model: str | None = None
    """The ``ft:`` model whose tuning is continued, if any."""
    status: JobStatus = JobStatus.VALIDATING_FILES
    training_file: str
    validation_file: str | None = None
    training_sha256: str = ""
    """Snapshot semantics: deleting the file never breaks the job."""
    validation_sha256: str | None = None
    method: str = "supervised"
    legacy_hyperparameters: bool = False
    """True when the request used the deprecated top-level field."""
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    """``n_epochs``, ``batch_size``, ``learning_rate_multiplier``: a number or "auto"; numbers once resolved."""
    options: dict[str, Any] = field(default_factory=dict)
    """Our own options as asked (``extra_body={"luthier": ...}``)."""
    seed: int
    suffix: str | None = None
    metadata: dict[str, str] | None = None
    integrations: list[dict[str, Any]] | None = None
    fine_tuned_model: str | None = None
    finished_at: int | None = None
    estimated_finish: int | None = None
    trained_tokens: int | None = None
    result_files: tuple[str, ...] = ()
    error: dict[str, Any] | None = None
    """``{"code", "message", "param"}`` or None."""
    cancel_requested: bool = False
    fence: int = 0
    """Grows by one with each lease and when one is taken away or given up; every write of a runner quotes it."""
    lease_owner: str | None = None
    lease_expires_at: float | None = None
    attempts: int = 0
    """Leases of the training lane that ended in a crash without progress since the last one that progressed."""
    progress_step: int = 0
    """Last step whose resume state is on disk."""
    paused_from: JobStatus | None = None
    """What a paused job was before; None when it is not paused."""
    started_at: int | None = None
    """When its first trainer took it, Unix seconds."""
    step: int | None = None
    """The last one that was done, of ``total_steps``."""
    total_steps: int | None = None
    epoch: int | None = None
    """The one that ``step`` belongs to, from 1."""
    train_loss: float | None = None
    """Of ``step``, nats."""
    valid_loss: float | None = None
    """The latest loss on all held-out examples, nats."""
    best_valid_loss: float | None = None
    """The lowest of them so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """One line of a job's public event list. ``sequence`` orders them, gap-free per job from 1."""

    id: str
    job_id: str
    sequence: int
    created_at: int
    level: str
    message: str
    type: str = "message"
    data: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """A public event about to be stored; storage gives it id and sequence."""

    created_at: int
    level: str
    """info, warn or error."""
    message: str
    type: str = "message"
    """message or metrics."""
    data: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecord:
    """A callable checkpoint of a job."""

    id: str
    job_id: str
    created_at: int
    model_name: str
    step_number: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPermission:
    """A project that may use a tuned model or a checkpoint."""

    id: str
    model_name: str
    project_id: str
    created_at: int


class ModelKind(StrEnum):
    """What a served name stands for."""

    BASE = "base"
    """An open base model."""
    ADAPTER = "adapter"
    """A LoRA adapter on a base."""
    FULL = "full"
    """A complete set of tuned weights."""


class RunsOn(StrEnum):
    """Which of the two paths computes a base model."""

    FAST = "fast"
    """Our own decoder."""
    GENERIC = "generic"
    """transformers and PEFT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """A served model: base, tuned model or checkpoint. Base models are no special case."""

    name: str
    kind: ModelKind
    base: str
    """Name of the open base model; for a base itself its own name."""
    path: str
    """Folder, relative to the data directory; ``builtin:NAME`` for the model inside the package."""
    created_at: int
    owned_by: str
    job_id: str | None = None
    step: int | None = None
    """Step of an intermediate checkpoint; None for a base or a final model."""
    row_format: str = "chat"
    """How prompts are rendered: ``core.examples.RowFormat`` value of the training file; ``chat`` for bases."""
    sha256: str = ""
    """Hash of the folder's manifest."""
    revision: str | None = None
    """Of a base: SHA-256 over its weights, tokenizer and configs; None for other models, and where it was never read."""
    licence: str | None = None
    """Of a base: the licence that its card names; None for other models, and where no card names one."""
    source: str | None = None
    """Of a base that came from the Hugging Face hub: ``hf://OWNER/NAME@COMMIT``."""
    num_bytes: int | None = None
    """Of a base: size of its files; None for other models, and where it was never read."""
    runs_on: RunsOn | None = None
    """Of a base: what computes it; None for other models, and where it was never read."""
