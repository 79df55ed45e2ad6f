"""The four libraries behind one small interface: a run is opened, told points, and closed.

What it does: imports a library when its writer is made, and never before; switches off what would send more than the run's numbers.
What it does not: catch anything: a writer's error ends its process (``follower.py``). A run that was opened before is gone on with.
"""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from luthier.worker.loggers.points import Point
from luthier.worker.loggers.targets import LoggerKind, LoggerTarget

STATUSES = {"succeeded": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}
"""MLflow's words for a job's final status; a run of a job that goes on later stays RUNNING."""
_MLFLOW_BATCH = 1000
"""Most numbers that its server takes at once."""


class RunWriter(Protocol):
    """One run in one logger. Used by one thread."""

    def configure(self, values: dict[str, Any]) -> None:
        """Add settings of the run; the same ones may come again."""
        ...

    def write(self, points: Sequence[Point]) -> None:
        """Add points, oldest first; returns when they need not be kept any longer."""
        ...

    def summarize(self, values: dict[str, float]) -> None:
        """Add numbers of the whole run."""
        ...

    def close(self, status: str | None) -> None:
        """Send what is left. ``status``: the job's final one, None when it goes on later."""
        ...


def open_writer(target: LoggerTarget, job_id: str, folder: Path) -> RunWriter:
    """Open a run.

    Args:
        target: where.
        job_id: identifies the run: a second attempt goes on with it.
        folder: for files that the library keeps beside.

    Raises:
        ImportError: the library is not installed.
        Exception: whatever the library raises.
    """
    makers = {
        LoggerKind.WANDB: WandbWriter,
        LoggerKind.MLFLOW: MlflowWriter,
        LoggerKind.TENSORBOARD: TensorboardWriter,
        LoggerKind.TRACKIO: TrackioWriter,
    }
    return makers[target.kind](job_id, folder, **target.options)


class WandbWriter:
    """Weights & Biases; its own variables (``WANDB_API_KEY``, ``WANDB_MODE``, ``WANDB_BASE_URL``) are read by the library."""

    def __init__(
        self, job_id: str, folder: Path, *, project: str, name: str, entity: str | None = None, tags: Sequence[str] | None = None
    ) -> None:
        """See ``open_writer``; the rest as in the job's ``integrations``."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        wandb: Any = importlib.import_module("wandb")
        quiet = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            save_code=False,
            disable_code=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
        )
        self._run = wandb.init(
            project=project, entity=entity, name=name, tags=list(tags or ()), id=job_id, resume="allow", dir=str(folder), settings=quiet
        )
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def configure(self, values: dict[str, Any]) -> None:
        """See ``RunWriter``."""
        self._run.config.update(values, allow_val_change=True)

    def write(self, points: Sequence[Point]) -> None:
        """See ``RunWriter``. The library has them on the disk when this returns, and sends them beside."""
        for point in points:
            self._run.log({**point.metrics, "step": point.step})

    def summarize(self, values: dict[str, float]) -> None:
        """See ``RunWriter``."""
        self._run.summary.update(values)

    def close(self, status: str | None) -> None:
        """See ``RunWriter``."""
        self._run.finish(exit_code=1 if status == "failed" else 0)


class MlflowWriter:
    """MLflow, any tracking address: a server, a database, a folder."""

    def __init__(self, job_id: str, folder: Path, *, uri: str, experiment: str) -> None:
        """See ``open_writer``; ``uri`` and ``experiment`` as in the settings."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        tracking: Any = importlib.import_module("mlflow.tracking")
        self._entities: Any = importlib.import_module("mlflow.entities")
        self._client = tracking.MlflowClient(tracking_uri=uri)
        known = self._client.get_experiment_by_name(experiment)
        experiment_id = known.experiment_id if known is not None else self._client.create_experiment(experiment)
        before = self._client.search_runs([experiment_id], filter_string=f"tags.`luthier.job` = '{job_id}'", max_results=1)
        if before:
            self._run_id = before[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
        else:
            self._run_id = self._client.create_run(experiment_id, run_name=job_id, tags={"luthier.job": job_id}).info.run_id
        # Parameters cannot change there.
        self._params = dict(self._client.get_run(self._run_id).data.params)

    def configure(self, values: dict[str, Any]) -> None:
        """See ``RunWriter``."""
        fresh = {name: value for name, value in values.items() if name not in self._params}
        params = [self._entities.Param(name, str(value)) for name, value in fresh.items()]
        self._client.log_batch(self._run_id, params=params)
        self._params.update(fresh)

    def write(self, points: Sequence[Point]) -> None:
        """See ``RunWriter``."""
        self._send([(name, value, point.time, point.step) for point in points for name, value in point.metrics.items()])

    def summarize(self, values: dict[str, float]) -> None:
        """See ``RunWriter``."""
        self._send([(name, value, 0.0, 0) for name, value in values.items()])

    def close(self, status: str | None) -> None:
        """See ``RunWriter``."""
        if status is not None:
            self._client.set_terminated(self._run_id, status=STATUSES.get(status, "FINISHED"))

    def _send(self, numbers: Sequence[tuple[str, float, float, int]]) -> None:
        metrics = [self._entities.Metric(name, value, int(time * 1000), step) for name, value, time, step in numbers]
        for start in range(0, len(metrics), _MLFLOW_BATCH):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + _MLFLOW_BATCH])


class TensorboardWriter:
    """Event files, one folder per job; TensorBoard itself need not run, nor torch be there."""

    def __init__(self, job_id: str, _folder: Path, *, folder: str) -> None:
        """See ``open_writer``; ``folder`` as in the settings."""
        summary: Any = importlib.import_module("tensorboard.summary")
        self._writer = summary.Writer(str(Path(folder) / job_id))
        self._last = (0, 0.0)

    def configure(self, values: dict[str, Any]) -> None:
        """Its files have no place for settings."""

    def write(self, points: Sequence[Point]) -> None:
        """See ``RunWriter``."""
        for point in points:
            for name, value in point.metrics.items():
                self._writer.add_scalar(name, value, point.step, wall_time=point.time)
            self._last = (point.step, point.time)
        self._writer.flush()

    def summarize(self, values: dict[str, float]) -> None:
        """As numbers of the last step."""
        step, time = self._last
        self.write([Point(step=step, time=time, metrics=values)])

    def close(self, status: str | None) -> None:
        """See ``RunWriter``."""
        self._writer.close()


class TrackioWriter:
    """trackio; its own variables say where to (``TRACKIO_DIR``, ``TRACKIO_SPACE_ID``, ``TRACKIO_SERVER_URL``), without any: this disk."""

    def __init__(self, job_id: str, folder: Path, *, project: str) -> None:
        """See ``open_writer``; ``project`` as in the settings."""
        trackio: Any = importlib.import_module("trackio")
        self._run = trackio.init(project=project, name=job_id, resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False)

    def configure(self, values: dict[str, Any]) -> None:
        """See ``RunWriter``."""
        self._run.config.update(values)

    def write(self, points: Sequence[Point]) -> None:
        """See ``RunWriter``."""
        for point in points:
            self._run.log(dict(point.metrics), step=point.step)

    def summarize(self, values: dict[str, float]) -> None:
        """See ``RunWriter``."""
        self._run.log(dict(values))

    def close(self, status: str | None) -> None:
        """See ``RunWriter``."""
        self._run.finish()
