"""Bodies of ``/luthier/datasets``: what each kind of dataset task may be asked for."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from luthier.api.schemas.fields import MAX_SEED, Metadata, ModelName, WireModel, refusal
from luthier.api.schemas.fine_tuning import Hyperparameters, JobCreateRequest, LuthierOptions
from luthier.api.schemas.fine_tuning import Method as JobMethod

Id = Annotated[str, Field(min_length=1, max_length=128)]
Filename = Annotated[str, Field(min_length=1, max_length=255)]
Method = Literal["supervised", "dpo", "reinforcement"]
Seed32 = Annotated[int, Field(ge=0, le=2**32 - 1)]
FIELDS = ("messages", "prompt", "completion", "chosen", "rejected", "system", "input", "tools")
"""What a column can become."""


def _check_map(columns: dict[str, str]) -> dict[str, str]:
    *first, last = (f"'{name}'" for name in FIELDS)
    for name in columns:
        if name not in FIELDS:
            raise refusal("invalid_value", f"Invalid key in 'map': {name[:64]!r}. Supported keys are: {', '.join(first)}, and {last}.")
    return columns


ColumnMapping = Annotated[
    dict[str, Annotated[str, Field(max_length=1024)]],
    AfterValidator(_check_map),
    Field(json_schema_extra={"propertyNames": {"enum": list(FIELDS)}}),
]
"""Field -> column, where the guess is wrong; an empty column leaves the field out."""


class TaskRequest(WireModel):
    """What every kind has."""

    wait_seconds: Annotated[float, Field(ge=0.0, le=60.0)] = 10.0
    """How long the answer waits for the task's end; after that the task is asked for by its id."""

    def options(self) -> dict[str, Any]:
        """What the work is told: everything that was given, or has a default, but the waiting."""
        return self.model_dump(exclude={"wait_seconds"}, exclude_none=True)


class CompletionFilterRequest(WireModel):
    """Which stored chat completions; everything that is given must hold."""

    model: ModelName | None = None
    metadata: Metadata | None = None
    ids: Annotated[list[Id], Field(min_length=1, max_length=10_000)] | None = None
    after: Id | None = None
    limit: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


class CheckRequest(TaskRequest):
    """Find every fault of a file."""

    file_id: Id
    role: Literal["training", "validation"] = "training"
    method: Method | None = None


class DoctorRequest(TaskRequest):
    """Find what is sound and will not teach what it should."""

    file_id: Id
    validation_file_id: Id | None = None
    method: Method | None = None
    model: ModelName | None = None
    """For whose length rows are counted; the default base when none is named."""
    losses: bool = False
    """Whether the model measures how well it predicts a sample of the rows already: up to half a minute."""
    seed: Seed32 = 0


class FixRequest(TaskRequest):
    """Make a repaired copy."""

    file_id: Id
    to_chat: bool = False
    diff: bool = False
    filename: Filename | None = None


class RedactRequest(TaskRequest):
    """Make a copy without secrets and personal data."""

    file_id: Id
    kinds: (
        Annotated[list[Literal["secrets", "emails", "phones", "cards", "ibans", "ips", "ids"]], Field(min_length=1, max_length=7)] | None
    ) = None
    filename: Filename | None = None


class SplitRequest(TaskRequest):
    """Make a training and a validation file."""

    file_id: Id | None = None
    stored_completions: CompletionFilterRequest | None = None
    valid: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    seed: Seed32 = 0
    group_by: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1, max_length=16)] | None = None
    """Names of metadata of stored completions: rows that have the same values of all of them stay on one side."""


class ImportRequest(TaskRequest):
    """Make a training file of another format, or of stored completions."""

    file_id: Id | None = None
    stored_completions: CompletionFilterRequest | None = None
    source: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """``hf://OWNER/NAME``, where the server's settings allow it."""
    map: ColumnMapping | None = None
    skip_bad: bool = False
    filename: Filename | None = None


class ExportRequest(TaskRequest):
    """Write the rows in another tool's format."""

    file_id: Id
    format: Literal["csv", "alpaca", "sharegpt"]
    skip_bad: bool = False
    filename: Filename | None = None


class PreviewRequest(TaskRequest):
    """Show the tokens of one row, and which of them are learned."""

    file_id: Id
    model: ModelName | None = None
    """The default base when none is named."""
    line: Annotated[int, Field(ge=1, le=MAX_SEED)] = 1
    method: Method | None = None
    max_length: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    packing: bool = False
    """Whether the whole file is tokenized to say where the row lies after packing; for supervised rows."""


class ForecastRequest(TaskRequest):
    """Say what a job would take; the fields are those of the job's request."""

    training_file: Id
    validation_file: Id | None = None
    model: ModelName
    method: JobMethod | None = None
    hyperparameters: Hyperparameters | None = None
    luthier: LuthierOptions | None = None
    seed: Seed32 = 0
    dry_run: bool = True
    """False: from formulas alone, without training for some seconds."""

    def job(self) -> JobCreateRequest:
        """The request for the job that is forecast."""
        asked = {name: getattr(self, name) for name in type(self).model_fields if name in JobCreateRequest.model_fields}
        return JobCreateRequest.model_construct(**asked)
