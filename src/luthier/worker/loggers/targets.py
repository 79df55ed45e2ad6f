"""Which loggers a job's numbers go to: those of its ``integrations``, and those that the server's settings name.

Pure. What it does not: check that a library is installed (the follower finds out), or start anything (``followers.py``).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from luthier.core.jobs import Job
from luthier.core.settings import Settings


class LoggerKind(StrEnum):
    """The loggers that are known; also the names of the extras that install their libraries."""

    WANDB = "wandb"
    MLFLOW = "mlflow"
    TENSORBOARD = "tensorboard"
    TRACKIO = "trackio"


TITLES: Mapping[LoggerKind, str] = {
    LoggerKind.WANDB: "Weights & Biases",
    LoggerKind.MLFLOW: "MLflow",
    LoggerKind.TENSORBOARD: "TensorBoard",
    LoggerKind.TRACKIO: "trackio",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggerTarget:
    """One place that a run's numbers go to."""

    key: str
    """Unique within the job; names its files in the run folder."""
    kind: LoggerKind
    options: dict[str, Any]
    """What its writer needs; see there."""

    @property
    def title(self) -> str:
        """Its name for people."""
        return TITLES[self.kind]

    def to_json(self) -> str:
        """For the command line of its process."""
        return json.dumps({"key": self.key, "kind": self.kind.value, "options": self.options})


def target_from_json(text: str) -> LoggerTarget:
    """The inverse of ``LoggerTarget.to_json``."""
    plain = json.loads(text)
    return LoggerTarget(key=plain["key"], kind=LoggerKind(plain["kind"]), options=plain["options"])


def targets_of(job: Job, settings: Settings) -> tuple[LoggerTarget, ...]:
    """The job's own ones first."""
    found: list[LoggerTarget] = []
    # A run's id is the job's: in one project there can be one such run.
    projects = {(item["wandb"].get("entity"), item["wandb"]["project"]): item["wandb"] for item in job.integrations or ()}
    for number, wandb in enumerate(projects.values(), start=1):
        key = LoggerKind.WANDB.value if number == 1 else f"{LoggerKind.WANDB.value}-{number}"
        # As upstream: the run is named after the job unless it has a name.
        options = {"name": job.id, **{name: value for name, value in wandb.items() if value}}
        found.append(LoggerTarget(key=key, kind=LoggerKind.WANDB, options=options))
    if settings.mlflow_uri:
        found.append(_by_settings(LoggerKind.MLFLOW, uri=settings.mlflow_uri, experiment=settings.mlflow_experiment))
    if settings.tensorboard_dir:
        found.append(_by_settings(LoggerKind.TENSORBOARD, folder=settings.tensorboard_dir))
    if settings.trackio_project:
        found.append(_by_settings(LoggerKind.TRACKIO, project=settings.trackio_project))
    return tuple(found)


def _by_settings(kind: LoggerKind, **options: str) -> LoggerTarget:
    return LoggerTarget(key=kind.value, kind=kind, options=options)
