"""Answers of the dashboard's endpoints, for the OpenAPI document and the tests that hold answers against it."""

from typing import Any, Literal

from luthier.api.schemas.job_view_objects import TraceView
from luthier.api.schemas.objects import Error, ListOf, Shape

Numbers = list[float | None]


JobStatus = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
"""Values of ``core.jobs.JobStatus``."""


class RowError(Shape):
    """Why a job failed."""

    code: str | None
    message: str
    param: str | None


class JobRow(Shape):
    """A job as one line of a list; what is not known is null."""

    object: Literal["luthier.job"]
    id: str
    status: JobStatus
    created_at: int
    started_at: int | None
    """When a trainer first took it."""
    finished_at: int | None
    model: str
    base: str
    method: str
    adapter: str
    suffix: str | None
    fine_tuned_model: str | None
    metadata: dict[str, str] | None
    training_file: str
    validation_file: str | None
    step: int | None
    total_steps: int | None
    epoch: int | None
    total_epochs: int | None
    train_loss: float | None
    """Of the latest step, nats."""
    valid_loss: float | None
    """The latest on all held-out examples."""
    best_valid_loss: float | None
    eta_seconds: int | None
    queue_place: int | None
    """From 1, of a job that waits for a trainer."""
    error: RowError | None


class JobRowList(ListOf[JobRow]):
    """A page of jobs; ``total`` counts all that the filter lets through."""

    total: int


class Cancelled(Shape):
    """What became of one job of a bulk cancel: its status, or why it could not be cancelled."""

    id: str
    status: JobStatus | None
    error: Error | None


class QuizAnswer(Shape):
    """One of a question's answers."""

    text: str
    correct: bool


class QuizQuestion(Shape):
    """A question out of the run's own numbers; ``view`` and ``anchor`` are where the page shows the answer."""

    id: str
    question: str
    answers: list[QuizAnswer]
    explanation: str
    view: str
    anchor: str


class Quiz(Shape):
    """Up to three questions; ``note`` says why there are fewer."""

    questions: list[QuizQuestion]
    note: str | None


class Insight(Shape):
    """The one thing to know of a run, by the rule of this name."""

    text: str
    rule: str
    view: str
    anchor: str


class Code(Shape):
    """The calls that make a job like this one."""

    python: str
    curl: str
    cli: str


class JobView(Shape):
    """All that the views of one job are drawn from; the steps come from the metrics."""

    object: Literal["luthier.job_view"]
    job: JobRow
    view: TraceView
    step_count: int
    quiz: Quiz | None
    insight: Insight | None
    code: Code
    openai_cost: dict[str, Any] | None


class ValidPoints(Shape):
    """Held-out measures, one a step; ``full``: of the whole file, else of a sample of it."""

    step: list[int]
    loss: Numbers
    accuracy: Numbers
    full: list[bool]


class Series(Shape):
    """One value a bucket; ``step`` is a bucket's last one."""

    step: list[int]
    train_loss_min: Numbers
    train_loss_mean: Numbers
    train_loss_max: Numbers
    accuracy_mean: Numbers
    learning_rate: Numbers
    grad_norm_mean: Numbers
    tokens_per_second: Numbers
    valid: ValidPoints


class Metrics(Shape):
    """A run's steps in buckets of ``bucket``; ``steps`` are those that are known."""

    object: Literal["luthier.metrics"]
    steps: int
    bucket: int
    series: Series


class Session(Shape):
    """Who is signed in on this page: what ``/ui/session`` answers."""

    object: Literal["luthier.session"]
    csrf: str
    role: Literal["admin", "member", "read-only"]
    project_id: str
    expires_at: int


class Device(Shape):
    """A processor or a graphics card."""

    kind: Literal["cpu", "gpu"]
    name: str
    cores: int | None
    memory_total: int | None
    memory_free: int | None


class Memory(Shape):
    """Of the machine, and of two of our processes; bytes."""

    total: int | None
    available: int | None
    api_bytes: int | None
    engine_bytes: int | None


class Disk(Shape):
    """Where the data directory is; how fast it fills is said after ten minutes of watching."""

    total: int
    free: int
    watched_seconds: float
    bytes_per_day: float | None
    seconds_to_full: float | None


class Queue(Shape):
    """Jobs by status, and how many wait for a trainer."""

    jobs: dict[str, int]
    waiting: int


class Worker(Shape):
    """A lane of the worker."""

    role: str
    seconds_since_beat: float | None
    alive: bool


class EngineState(Shape):
    """The process that answers."""

    loaded: list[str]
    active: int
    threads: int
    uptime_seconds: float


class System(Shape):
    """How the server is."""

    object: Literal["luthier.system"]
    devices: list[Device]
    memory: Memory
    disk: Disk
    queue: Queue
    workers: list[Worker]
    engine: EngineState | None
    keys: int
    webhooks: int
    versions: dict[str, str]


class Dependents(Shape):
    """What a deletion would touch."""

    aliases: list[str]
    jobs: list[str]
    """Unfinished jobs that go on from this model."""


class ModelRow(Shape):
    """A model with what hangs on it."""

    object: Literal["luthier.model"]
    id: str
    kind: Literal["base", "adapter", "full"]
    base: str
    created_at: int
    owned_by: str
    job_id: str | None
    step: int | None
    bytes: int | None
    licence: str | None
    runs_on: str | None
    source: str | None
    aliases: list[str]
    checkpoints: list[str]
    deletable: bool
    dependents: Dependents
