"""Between the office's records and OpenAI's objects. Pure.

What it does: files, uploads, jobs, events and checkpoints as JSON (reference, sections 1.1, 1.3, 2.2, 2.5, 2.6), and a job's request
as a ``Job``. What it does not: models and aliases (``model_objects.py``), look anything up. Called by the routes.
"""

from dataclasses import dataclass
from typing import Any

from luthier.api.model_names import TrainableModel
from luthier.api.schemas.fine_tuning import Hyperparameters, JobCreateRequest
from luthier.api.training_options import asked_options
from luthier.core.errors import InvalidRequest
from luthier.core.jobs import CheckpointPermission, CheckpointRecord, FileRecord, Job, JobEvent, JobStatus
from luthier.core.uploads import PartRecord, UploadRecord

_NO_ERROR = {"code": None, "message": None, "param": None}
METHODS = ("supervised", "dpo", "reinforcement")
OFFERED_METHODS = ("supervised", "dpo")
HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier")
_OF_METHOD = {"supervised": HYPERPARAMETERS, "dpo": (*HYPERPARAMETERS, "beta")}
"""What ``method.<type>.hyperparameters`` holds."""


def file_object(record: FileRecord) -> dict[str, Any]:
    """The ``file`` object."""
    return {
        "id": record.id,
        "object": "file",
        "bytes": record.bytes,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "filename": record.filename,
        "purpose": record.purpose,
        "status": record.status,
        "status_details": None,
    }


def upload_object(record: UploadRecord, file: FileRecord | None) -> dict[str, Any]:
    """The ``upload`` object; ``file`` is what a completed one became, as long as it exists."""
    return {
        "id": record.id,
        "object": "upload",
        "bytes": record.bytes,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "filename": record.filename,
        "purpose": record.purpose,
        "status": record.status.value,
        "file": None if file is None else file_object(file),
    }


def part_object(record: PartRecord) -> dict[str, Any]:
    """The ``upload.part`` object."""
    return {"id": record.id, "object": "upload.part", "created_at": record.created_at, "upload_id": record.upload_id}


def _integrations(job: Job) -> list[dict[str, Any]] | None:
    if job.integrations is None:
        return None
    unset = {"name": None, "entity": None, "tags": []}
    return [{**item, "wandb": {**unset, **item["wandb"], "run_id": job.id}} for item in job.integrations]


def estimated_finish(job: Job, now: int) -> int | None:
    """A time only while a trainer keeps it up to date, and never one that has passed: evaluation and deployment follow the last step."""
    if job.estimated_finish is None or job.status is not JobStatus.RUNNING or job.lease_owner is None:
        return None
    if job.lease_expires_at is not None and job.lease_expires_at <= now:
        return None
    return max(job.estimated_finish, now)


def _status_reason(job: Job) -> str | None:
    """Why a job is where it is, when its status alone does not tell."""
    if job.status.is_final:
        return None
    if job.status is JobStatus.PAUSED:
        return "Paused on request; it waits to be resumed."
    if job.attempts:
        return f"Its training process ended unexpectedly; attempts so far without progress: {job.attempts}."
    if job.lease_owner is None and job.status is JobStatus.RUNNING:
        return f"Waiting for a trainer, to go on after step {job.progress_step}."
    if job.lease_owner is None and job.status in (JobStatus.QUEUED, JobStatus.VALIDATING_FILES):
        return "Waiting for a worker."
    return None


def _status(job: Job, spec_strict: bool) -> str:
    """The schema has no ``paused``, which OpenAI's own example of a paused job shows; to the letter such a job is one that waits."""
    return JobStatus.QUEUED.value if spec_strict and job.status is JobStatus.PAUSED else job.status.value


def _own_fields(job: Job) -> dict[str, Any]:
    fields = {"base": job.base, "parent_model": job.parent_model, "options": job.options or None, "status_reason": _status_reason(job)}
    return {key: value for key, value in fields.items() if value is not None}


def job_object(job: Job, *, organization: str, spec_strict: bool, now: int) -> dict[str, Any]:
    """The ``fine_tuning.job`` object; hyperparameters stand in both places where clients look, the method's own ones in its part alone."""
    hyperparameters = {name: job.hyperparameters.get(name, "auto") for name in HYPERPARAMETERS}
    own = {name: job.hyperparameters.get(name, "auto") for name in _OF_METHOD[job.method]}
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "model": job.model,
        "fine_tuned_model": job.fine_tuned_model,
        "organization_id": f"org-{organization}",
        "status": _status(job, spec_strict),
        "hyperparameters": hyperparameters,
        "method": {"type": job.method, job.method: {"hyperparameters": own}},
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "result_files": list(job.result_files),
        "trained_tokens": job.trained_tokens,
        "error": job.error or (None if spec_strict else dict(_NO_ERROR)),
        "integrations": _integrations(job),
        "seed": job.seed,
        "estimated_finish": estimated_finish(job, now),
        "metadata": job.metadata,
        "user_provided_suffix": job.suffix,
        "usage_metrics": None,
        "shared_with_openai": False,
        "eval_id": None,
        "luthier": _own_fields(job),
    }


def event_object(event: JobEvent) -> dict[str, Any]:
    """The ``fine_tuning.job.event`` object."""
    return {
        "object": "fine_tuning.job.event",
        "id": event.id,
        "created_at": event.created_at,
        "level": event.level,
        "message": event.message,
        "type": event.type,
        "data": event.data if event.data is not None else {},
    }


def checkpoint_object(checkpoint: CheckpointRecord) -> dict[str, Any]:
    """The ``fine_tuning.job.checkpoint`` object."""
    return {
        "id": checkpoint.id,
        "object": "fine_tuning.job.checkpoint",
        "created_at": checkpoint.created_at,
        "fine_tuned_model_checkpoint": checkpoint.model_name,
        "fine_tuning_job_id": checkpoint.job_id,
        "step_number": checkpoint.step_number,
        "metrics": checkpoint.metrics,
    }


def permission_object(permission: CheckpointPermission) -> dict[str, Any]:
    """The ``checkpoint.permission`` object."""
    return {
        "id": permission.id,
        "object": "checkpoint.permission",
        "created_at": permission.created_at,
        "project_id": permission.project_id,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class JobParts:
    """What a new job needs besides its request."""

    id: str
    created_at: int
    seed: int
    """Used when the request names none."""
    trainable: TrainableModel
    training: FileRecord
    validation: FileRecord | None


def _given(hyperparameters: Hyperparameters | None) -> dict[str, Any]:
    return {} if hyperparameters is None else hyperparameters.model_dump(exclude_none=True)


def _hyperparameters(body: JobCreateRequest) -> dict[str, Any]:
    part = getattr(body.method, body.method.type) if body.method is not None else None
    modern, legacy = _given(part.hyperparameters if part is not None else None), _given(body.hyperparameters)
    if modern and legacy and modern != legacy:
        message = "Give hyperparameters in 'method' or in the deprecated 'hyperparameters', not different ones in both."
        raise InvalidRequest(message, code="invalid_value", param="hyperparameters")
    return {name: {**legacy, **modern}.get(name, "auto") for name in _OF_METHOD[_method(body)]}


def _method(body: JobCreateRequest) -> str:
    return "supervised" if body.method is None else body.method.type


def _options(body: JobCreateRequest, *, held_out: bool) -> dict[str, Any]:
    return asked_options(body.luthier, held_out=held_out, method=_method(body), hyperparameters=_hyperparameters(body))


def check_method(body: JobCreateRequest) -> None:
    """The parts of ``method`` fit its type, and the type is one that can be trained.

    Raises:
        InvalidRequest: another method's part, a part that is missing, or a method that is not offered.
    """
    if body.method is None:
        return
    kind = body.method.type
    for name in METHODS:
        if name != kind and getattr(body.method, name) is not None:
            message = f"Unsupported parameter: 'method.{name}' does not belong to the method '{kind}'."
            raise InvalidRequest(message, code="unsupported_parameter", param=f"method.{name}")
    if kind == "supervised":
        return
    if body.hyperparameters is not None:
        message = f"Unsupported parameter: 'hyperparameters' belongs to the method 'supervised'. Use 'method.{kind}.hyperparameters'."
        raise InvalidRequest(message, code="unsupported_parameter", param="hyperparameters")
    if kind in OFFERED_METHODS:
        return
    if kind == "reinforcement":
        needed = {"method.reinforcement": body.method.reinforcement, "validation_file": body.validation_file}
        missing = next((name for name, part in needed.items() if part is None), None)
        if missing is not None:
            raise InvalidRequest(f"Missing required parameter: '{missing}'.", code="missing_required_parameter", param=missing)
    offered = " and ".join(f"'{name}'" for name in OFFERED_METHODS)
    message = f"Unsupported value: 'method.type' does not support '{kind}'. Supported values are: {offered}."
    raise InvalidRequest(message, code="unsupported_value", param="method.type")


def check_job(body: JobCreateRequest) -> None:
    """Refuse what no job could be made of, before there are files or a queue: what a forecast asks.

    Raises:
        InvalidRequest: as ``check_method`` and ``new_job`` say it.
    """
    check_method(body)
    _options(body, held_out=body.validation_file is not None)


def new_job(body: JobCreateRequest, parts: JobParts) -> Job:
    """The job that a checked request asks for.

    Raises:
        InvalidRequest: fields contradict each other.
    """
    integrations = [item.model_dump(exclude_none=True) for item in body.integrations] if body.integrations else None
    return Job(
        id=parts.id,
        created_at=parts.created_at,
        model=parts.trainable.model,
        base=parts.trainable.base,
        parent_model=parts.trainable.parent_model,
        training_file=parts.training.id,
        validation_file=parts.validation.id if parts.validation is not None else None,
        training_sha256=parts.training.sha256,
        validation_sha256=parts.validation.sha256 if parts.validation is not None else None,
        method=_method(body),
        legacy_hyperparameters=body.hyperparameters is not None,
        hyperparameters=_hyperparameters(body),
        options=_options(body, held_out=parts.validation is not None),
        seed=parts.seed if body.seed is None else body.seed,
        suffix=body.suffix,
        metadata=body.metadata,
        integrations=integrations,
    )
