"""What answers about dataset tasks hold, for the OpenAPI document; see ``objects.py``."""

from typing import Any, Literal

from luthier.api.schemas.objects import Shape, Unix

Kind = Literal["check", "doctor", "fix", "redact", "split", "import", "export", "preview", "forecast"]
"""Values of ``core.dataset_tasks.DatasetKind``."""


class TaskProgress(Shape):
    """How far a task is."""

    done: int
    total: int | None
    unit: str


class TaskError(Shape):
    """Why a task failed."""

    code: str
    message: str
    param: str | None


class DatasetTask(Shape):
    """Work on a file of rows. What ``result`` holds depends on the kind."""

    id: str
    object: Literal["luthier.dataset_task"]
    kind: Kind
    status: Literal["queued", "running", "completed", "failed", "cancelled"]
    created_at: Unix
    finished_at: Unix | None
    options: dict[str, Any]
    progress: TaskProgress | None
    num_findings: int
    result: dict[str, Any] | None
    error: TaskError | None


class UsingJob(Shape):
    """A job that uses a file."""

    id: str
    suffix: str | None
    status: str


class DatasetUse(Shape):
    """Who uses a file; ``named`` are up to eight of its jobs, unfinished ones first, then the newest first."""

    object: Literal["luthier.dataset_use"]
    file_id: str
    jobs: int
    unfinished: int
    named: list[UsingJob]


class FindingList(Shape):
    """Every finding of a task; what one holds depends on the kind."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    has_more: Literal[False]
