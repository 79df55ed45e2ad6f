"""A job that has run to its end, written the way a worker writes it, for tests that read jobs without training one."""

from collections.abc import Mapping

from luthier.api.deps import Services
from luthier.core.ids import new_file_id
from luthier.core.jobs import FileRecord, Job, JobStatus, NewEvent
from tests.support.office import new_checkpoint, new_model, note

RESULT_CSV = b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,1.5,0.5,1.25,0.75\n"
METRICS = {
    "step": 10,
    "train_loss": 0.5,
    "train_mean_token_accuracy": 0.875,
    "valid_loss": 0.75,
    "valid_mean_token_accuracy": 0.8125,
    "full_valid_loss": 0.625,
    "full_valid_mean_token_accuracy": 0.84375,
}
STEP = {"step": 1, "total_steps": 10, "train_loss": 1.5, "train_mean_token_accuracy": 0.5}


def lease(services: Services, job_id: str) -> Job:
    """The lease on this very job, whatever else waits."""
    while True:
        leased = services.queue.lease("owner-test", [JobStatus.VALIDATING_FILES])
        assert leased is not None
        if leased.id == job_id:
            return leased


def finish_job(services: Services, job_id: str, *, beta: float | None = None, extra: Mapping[str, float] | None = None) -> str:
    """Take a new job through every state; returns the name of its model, which is served from then on.

    ``beta`` is of a job on preferences, ``extra`` are its further metrics.
    """
    extra = dict(extra or {})
    leased = lease(services, job_id)
    fence, jobs = leased.fence, services.jobs
    jobs.update(job_id, fence=fence, changes={"status": JobStatus.QUEUED}, events=[note("Files validated, moving job to queued state")])
    resolved = {"n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": 1.8, **({} if beta is None else {"beta": beta})}
    running = {"status": JobStatus.RUNNING, "hyperparameters": resolved, "estimated_finish": int(services.clock()) + 60}
    jobs.update(job_id, fence=fence, changes=running, events=[note("Fine-tuning job started")])
    final = f"ft:{leased.model}:luthier:{leased.suffix or ''}:{job_id[-8:]}"
    first = f"ft:{leased.model}:luthier:{leased.suffix or ''}:{job_id[-9:-1]}:ckpt-step-5"
    points = [new_checkpoint(job_id, 5, model_name=first), new_checkpoint(job_id, 10, model_name=final, metrics={**METRICS, **extra})]
    step = NewEvent(created_at=5, level="info", message="Step 1/10: training loss=1.50", type="metrics", data={**STEP, **extra})
    sha256, size = services.blobs.put(RESULT_CSV)
    result = FileRecord(
        id=new_file_id(), filename="step_metrics.csv", purpose="fine-tune-results", bytes=size, sha256=sha256, created_at=10
    )
    changes = {
        "status": JobStatus.SUCCEEDED,
        "fine_tuned_model": final,
        "trained_tokens": 120,
        "result_files": (result.id,),
    }
    jobs.update(
        job_id,
        fence=fence,
        changes=changes,
        events=[step, note(f"New fine-tuned model created: {final}"), note("The job has successfully completed")],
        checkpoints=points,
        models=[new_model(first, job_id=job_id, step=5), new_model(final, job_id=job_id)],
        files=[result],
    )
    return final
