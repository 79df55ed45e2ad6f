"""What answers hold, for the OpenAPI document: one shape per object, with every field of it.

What it does: names the fields of each answer and their types; an answer with another field does not fit. What it does not:
make answers (``mapping.py``, ``answers.py`` and their neighbours do) or check them while they are sent: the schema tests
do. Called by ``openapi.py``. Chat completions, completions and responses stand in ``answer_objects.py``.
"""

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Unix = Annotated[int, Field(description="Unix seconds.")]


class Shape(BaseModel):
    """An object with these fields and no others."""

    model_config = ConfigDict(extra="forbid")


T = TypeVar("T", bound=Shape)


class ListOf(Shape, Generic[T]):
    """A list without cursors."""

    object: Literal["list"]
    data: list[T]
    has_more: bool


class PageOf(ListOf[T], Generic[T]):
    """A page of a list."""

    first_id: str | None
    last_id: str | None


class Error(Shape):
    """What was wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(Shape):
    """Every answer that is not a success."""

    error: Error


class Deleted(Shape):
    """The object is gone."""

    id: str
    object: str
    deleted: Literal[True]


# ------------------------------------------------------------------------------------------------------ files, uploads


class File(Shape):
    """A stored file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: Unix
    expires_at: Unix | None
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None


class RescuedRows(Shape):
    """What became of the stored completions."""

    rows: int
    left_out: int


class FileFromCompletions(File):
    """A file made of stored chat completions."""

    luthier: RescuedRows


class Upload(Shape):
    """A large file on its way in parts."""

    id: str
    object: Literal["upload"]
    bytes: int
    created_at: Unix
    expires_at: Unix
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: File | None


class UploadPart(Shape):
    """One part of an upload."""

    id: str
    object: Literal["upload.part"]
    created_at: Unix
    upload_id: str


# --------------------------------------------------------------------------------------------------------- fine-tuning


class JobHyperparameters(Shape):
    """The numbers of a job, resolved once it runs."""

    n_epochs: int | Literal["auto"]
    batch_size: int | Literal["auto"]
    learning_rate_multiplier: float | Literal["auto"]


class SupervisedMethod(Shape):
    """``method.supervised``."""

    hyperparameters: JobHyperparameters


class JobMethod(Shape):
    """How a supervised job trains."""

    type: Literal["supervised"]
    supervised: SupervisedMethod


class DpoHyperparameters(JobHyperparameters):
    """Those of preference tuning."""

    beta: float | Literal["auto"]


class DpoMethod(Shape):
    """``method.dpo``."""

    hyperparameters: DpoHyperparameters


class JobDpoMethod(Shape):
    """How a job trains that learns from preferences."""

    type: Literal["dpo"]
    dpo: DpoMethod


class JobError(Shape):
    """Why a job failed; all null while nothing did (null as a whole with ``LUTHIER_SPEC_STRICT=1``)."""

    code: str | None
    message: str | None
    param: str | None


class JobWandb(Shape):
    """Where metrics were asked to go."""

    project: str
    name: str | None
    entity: str | None
    tags: list[str]
    run_id: str


class JobIntegration(Shape):
    """One of ``integrations``."""

    type: Literal["wandb"]
    wandb: JobWandb


class Job(Shape):
    """A fine-tuning job."""

    id: str
    object: Literal["fine_tuning.job"]
    created_at: Unix
    finished_at: Unix | None
    model: str
    fine_tuned_model: str | None
    organization_id: str
    status: Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
    hyperparameters: JobHyperparameters
    method: JobMethod | JobDpoMethod
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    error: JobError | None
    integrations: list[JobIntegration] | None
    seed: int
    estimated_finish: Unix | None
    metadata: dict[str, str] | None
    user_provided_suffix: str | None
    usage_metrics: None
    shared_with_openai: bool
    eval_id: None
    luthier: Annotated[dict[str, Any], Field(description="Our own: the open base, the parent model, our options, why it waits.")]


class Event(Shape):
    """Something that happened to a job."""

    object: Literal["fine_tuning.job.event"]
    id: str
    created_at: Unix
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class Checkpoint(Shape):
    """A checkpoint of a job, callable by its model name."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: Unix
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: dict[str, float | None]


class Permission(Shape):
    """A project that may use a checkpoint."""

    id: str
    object: Literal["checkpoint.permission"]
    created_at: Unix
    project_id: str


# ---------------------------------------------------------------------------------------------------- models, aliases


class OpenBase(Shape):
    """What stands behind a model's name."""

    kind: Literal["base", "adapter", "full", "alias"]
    base: str
    base_revision: str | None
    licence: str | None
    alias_of: str | None
    job_id: str | None = None
    step: int | None = None
    source: str | None = None
    """Of a base from the Hugging Face hub: ``hf://OWNER/NAME@COMMIT``."""
    size_bytes: int | None = None
    runs_on: Literal["fast", "generic"] | None = None
    """What computes the base: our own decoder, or transformers."""


class Model(Shape):
    """A name that answers."""

    id: str
    object: Literal["model"]
    created: Unix
    owned_by: str
    shutdown_date: str | None
    luthier: OpenBase


class ModelList(Shape):
    """All models."""

    object: Literal["list"]
    data: list[Model]


class Alias(Shape):
    """A name that stands for a model."""

    id: str
    object: Literal["luthier.alias"]
    target: str
    default_target: str | None
    set_in: Literal["database", "settings"]
    created_at: Unix | None
    changed_at: Unix | None
    changed_by: str | None


class AliasChange(Shape):
    """One change of an alias."""

    object: Literal["luthier.alias.change"]
    action: Literal["created", "moved", "rolled_back", "deleted"]
    from_: Annotated[str | None, Field(alias="from")]
    to: str | None
    changed_at: Unix
    changed_by: str


class AliasWithHistory(Alias):
    """An alias with every change of it, newest first."""

    history: list[AliasChange]


# ------------------------------------------------------------------------------------------------------------- our own


class TraceEvent(Shape):
    """One event of a job's trace; ``docs/reference/trace-events.md`` lists the types with their fields."""

    schema_: Annotated[int, Field(alias="schema")]
    id: int
    run: str
    attempt: int
    time: float
    stage: str
    type: str
    data: dict[str, Any]


class RowLoss(Shape):
    """The mean loss of a training line in one epoch, nats; ``first_loss`` is that of the run's first epoch, null in that one itself."""

    object: Literal["luthier.row_loss"]
    line: int
    tokens: int
    loss: float | None
    first_loss: float | None


class RowLossList(ListOf[RowLoss]):
    """A page of row losses; ``epochs`` are those that are over, ``epoch`` the one that is shown, null before the first is over."""

    epoch: int | None
    epochs: list[int]


class RenderedToken(Shape):
    """One token as the model reads it."""

    id: int
    text: str
    bytes: list[int]
    kind: Literal["trained", "context", "special"]
    role: str | None
    message: int | None


class Rendering(Shape):
    """A conversation as tokens."""

    object: Literal["luthier.rendering"]
    model: str
    tokens: list[RenderedToken]


class Alive(Shape):
    """The process answers."""

    status: Literal["ok"]


class Ready(Shape):
    """Jobs are taken and chats are answered."""

    status: Literal["ready"]


class NotReady(Shape):
    """What is missing, by part of the server."""

    status: Literal["not_ready"]
    reasons: dict[str, str]
