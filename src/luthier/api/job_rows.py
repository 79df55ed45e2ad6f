"""A job as one line of a list: ``luthier.job``.

What it does: everything that a list shows, from the job's own row and its place among those that wait; what is not known is null. What
it does not: read a run's log. Called by ``routes/dashboard.py`` and ``tab_stream.py``.
"""

from collections.abc import Mapping
from typing import Any

from luthier.api.mapping import estimated_finish
from luthier.core.jobs import Job


def job_row(job: Job, *, now: int, places: Mapping[str, int]) -> dict[str, Any]:
    """The ``luthier.job`` object.

    Args:
        now: Unix seconds.
        places: of jobs that wait, from 1.
    """
    finish = estimated_finish(job, now)
    epochs = job.hyperparameters.get("n_epochs")
    return {
        "object": "luthier.job",
        "id": job.id,
        "status": job.status.value,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "model": job.model,
        "base": job.base,
        "method": job.method,
        "adapter": job.options.get("adapter") or "lora",
        "suffix": job.suffix,
        "fine_tuned_model": job.fine_tuned_model,
        "metadata": job.metadata,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "step": job.step,
        "total_steps": job.total_steps,
        "epoch": job.epoch,
        "total_epochs": epochs if isinstance(epochs, int) else None,
        "train_loss": job.train_loss,
        "valid_loss": job.valid_loss,
        "best_valid_loss": job.best_valid_loss,
        "eta_seconds": None if finish is None else finish - now,
        "queue_place": places.get(job.id),
        "error": job.error,
    }
