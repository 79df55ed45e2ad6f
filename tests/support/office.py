"""Records and a database for tests of the office: valid in every field, each with a new id."""

from pathlib import Path
from typing import Any

from luthier.core import ids
from luthier.core.jobs import CheckpointRecord, FileRecord, Job, ModelKind, ModelRecord, NewEvent
from luthier.core.keys import DEFAULT_PROJECT, ApiKey, Role, key_sha256, masked
from luthier.storage.database import Database, migrate

START = 1_700_000_000


class Clock:
    """A clock that moves only when told."""

    def __init__(self, now: float = START) -> None:
        self.now = float(now)

    def __call__(self) -> float:
        return self.now


def new_database(folder: Path) -> Database:
    """A migrated database in a folder."""
    path = folder / "state.db"
    migrate(path)
    return Database(path)


def new_job(**changes: Any) -> Job:
    """A job as ``api`` hands it to the queue."""
    values: dict[str, Any] = {
        "id": ids.new_job_id(),
        "created_at": START,
        "model": "gpt-4o-mini-2024-07-18",
        "base": "luthier-mini",
        "training_file": "file-training",
        "training_sha256": "a" * 64,
        "hyperparameters": {"n_epochs": "auto", "batch_size": 4, "learning_rate_multiplier": 0.1},
        "seed": 7,
    }
    return Job(**{**values, **changes})


def new_file(**changes: Any) -> FileRecord:
    """A file's row; its blob need not exist."""
    values: dict[str, Any] = {
        "id": ids.new_file_id(),
        "filename": "rows.jsonl",
        "purpose": "fine-tune",
        "bytes": 12,
        "sha256": "b" * 64,
        "created_at": START,
    }
    return FileRecord(**{**values, **changes})


def new_model(name: str, **changes: Any) -> ModelRecord:
    """An adapter's row."""
    values: dict[str, Any] = {
        "name": name,
        "kind": ModelKind.ADAPTER,
        "base": "luthier-mini",
        "path": "models/one",
        "created_at": START,
        "owned_by": "luthier",
    }
    return ModelRecord(**{**values, **changes})


def new_checkpoint(job_id: str, step: int, **changes: Any) -> CheckpointRecord:
    """A checkpoint's row."""
    values: dict[str, Any] = {
        "id": ids.new_checkpoint_id(),
        "job_id": job_id,
        "created_at": START,
        "model_name": f"ft:luthier-mini:luthier::abcd1234:ckpt-step-{step}",
        "step_number": step,
        "metrics": {"step": step, "train_loss": 0.5},
    }
    return CheckpointRecord(**{**values, **changes})


def new_api_key(*, key: str = "sk-test", **changes: Any) -> ApiKey:
    """A key's row."""
    values: dict[str, Any] = {
        "id": ids.new_api_key_id(),
        "name": "a key",
        "role": Role.MEMBER,
        "project_id": DEFAULT_PROJECT,
        "sha256": key_sha256(key),
        "redacted": masked(key),
        "created_at": START,
        "created_by": "tests",
    }
    return ApiKey(**{**values, **changes})


def note(message: str, **changes: Any) -> NewEvent:
    """An event about to be stored."""
    return NewEvent(**{"created_at": START, "level": "info", "message": message, **changes})
