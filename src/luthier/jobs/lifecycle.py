"""The life of a job: pure decisions on what changes, each with its event. The only place that decides a status change.

What it does: from a job and a fact to the fields and events to write. What it does not: read or write anything, or
look at a clock. Called by ``queue``, ``control`` and ``worker``; ``storage/jobs.py`` refuses moves that are not in
``core.jobs.ALLOWED_MOVES``, whoever asks.
"""

from collections.abc import Sequence

from luthier.core.errors import InvalidRequest, StaleLease
from luthier.core.jobs import ALLOWED_MOVES, CheckpointRecord, Job, JobStatus, ModelRecord, NewEvent
from luthier.storage.jobs import LEASE_ENDED, JobWrite

INTERNAL_ERROR = "The job failed due to an internal error."
CANCELLATION = "Fine tuning process stopping due to job cancellation"
PAUSED = "The job has been paused"
RESUMED = "The job has been resumed"


def can_move(source: JobStatus, target: JobStatus) -> bool:
    """True when a job that is ``source`` may become ``target``."""
    return target in ALLOWED_MOVES[source]


def move(job: Job, target: JobStatus, *, events: Sequence[NewEvent], **changes: object) -> JobWrite:
    """A job becomes ``target``, told by ``events``; ``changes`` are further ``Job`` fields.

    Raises:
        InvalidRequest: the job may not become that, or not any more.
    """
    if job.status.is_final:
        raise InvalidRequest(f"Job has already completed: {job.id} is {job.status}.")
    if not can_move(job.status, target):
        raise InvalidRequest(f"Job {job.id} is {job.status} and cannot become {target}.")
    return JobWrite(changes={"status": target, **changes}, events=events)


def creation_events(job: Job) -> tuple[NewEvent, ...]:
    """The first two events of a job."""
    files = f"Validating training file: {job.training_file}"
    if job.validation_file is not None:
        files += f" and validation file: {job.validation_file}"
    texts = (f"Created fine-tuning job: {job.id}", files)
    return tuple(NewEvent(created_at=job.created_at, level="info", message=text) for text in texts)


def cancelled(job: Job, now: float) -> JobWrite:
    """A caller cancels: at once, whatever the runner does; its lease ends and it notices by a refused write.

    Raises:
        InvalidRequest: the job is finished.
    """
    event = NewEvent(created_at=_at(job, now), level="warn", message=CANCELLATION)
    return move(job, JobStatus.CANCELLED, events=(event,), cancel_requested=True, fence=job.fence + 1)


def paused(job: Job, now: float, *, message: str = PAUSED) -> JobWrite:
    """A caller pauses: at once, whatever the runner does; its lease ends, it saves a resume state at its next step boundary, and
    makes what it has learned callable (``pause_checkpoint``). A runner that cannot write its state pauses itself, and says why.

    Raises:
        InvalidRequest: the job is finished, or paused already.
    """
    if job.status is JobStatus.PAUSED:
        raise InvalidRequest(f"Job {job.id} is already paused.")
    event = NewEvent(created_at=_at(job, now), level="info" if message == PAUSED else "error", message=message)
    changes = {"paused_from": job.status, "estimated_finish": None, "fence": job.fence + 1, **LEASE_ENDED}
    return move(job, JobStatus.PAUSED, events=(event,), **changes)


def pause_checkpoint(job: Job, fence: int, *, event: NewEvent, checkpoint: CheckpointRecord, model: ModelRecord) -> JobWrite:
    """What a paused job has learned becomes callable. The one thing that a runner may write after its lease is over: ``fence`` is
    that lease's number, and the job must still be in the very pause that ended it.

    Raises:
        StaleLease: the job was resumed, cancelled, or never paused under this lease.
    """
    if not is_paused_from(job, fence):
        raise StaleLease(f"Lease {fence} of {job.id} is over; the job is {job.status}, at {job.fence}.")
    return JobWrite(events=(event,), checkpoints=(checkpoint,), models=(model,))


def is_paused_from(job: Job, fence: int) -> bool:
    """True when the job is in the pause that ended the lease of this number."""
    return job.status is JobStatus.PAUSED and job.fence == fence + 1


def resumed(job: Job, now: float) -> JobWrite:
    """A caller resumes: the job waits for a worker again, to have its files checked or to train on.

    Raises:
        InvalidRequest: the job is finished, or not paused.
    """
    if not job.status.is_final and job.status is not JobStatus.PAUSED:
        raise InvalidRequest(f"Job {job.id} is {job.status}, not paused, and cannot be resumed.")
    unchecked = job.paused_from is JobStatus.VALIDATING_FILES
    event = NewEvent(created_at=_at(job, now), level="info", message=RESUMED)
    target = JobStatus.VALIDATING_FILES if unchecked else JobStatus.QUEUED
    return move(job, target, events=(event,), paused_from=None, fence=job.fence + 1, **LEASE_ENDED)


def crashed(job: Job, now: float, *, progressed: bool, max_attempts: int) -> JobWrite:
    """The runner died. The job waits for the next lease, or fails after ``max_attempts`` deaths in a row without progress."""
    attempts = 0 if progressed else job.attempts + 1
    if attempts < max_attempts or not can_move(job.status, JobStatus.FAILED):
        return JobWrite(changes={"attempts": attempts, "estimated_finish": None, "fence": job.fence + 1, **LEASE_ENDED})
    error = {"code": "server_error", "message": INTERNAL_ERROR, "param": None}
    event = NewEvent(created_at=_at(job, now), level="error", message=INTERNAL_ERROR)
    return move(job, JobStatus.FAILED, events=(event,), error=error, attempts=attempts, fence=job.fence + 1)


def _at(job: Job, now: float) -> int:
    # A clock that was set back must not let an event come before its job.
    return max(int(now), job.created_at)
