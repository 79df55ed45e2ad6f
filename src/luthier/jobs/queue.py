"""The queue: jobs go in once, and come out under a lease with a number that guards every write.

What it does: submits, leases, renews, releases, and records runners' deaths. What it does not: run jobs, or obey
callers (``control.py``). ``submit`` is called by ``api``, the rest by ``worker``.
"""

import copy
import time
from collections.abc import Callable, Sequence

from luthier.core.jobs import Job, JobStatus
from luthier.jobs import lifecycle
from luthier.storage.database import Database
from luthier.storage.jobs import JobStore
from luthier.storage.leases import LeaseStore, WaitingJob
from luthier.storage.retries import RetryMark

__all__ = ["JobQueue", "RetryMark", "WaitingJob"]

LEASE_SECONDS = 15.0
"""How long a lease lives without renewal, seconds."""


class JobQueue:
    """The jobs of one database, as a queue.

    Args:
        database: migrated.
        clock: Unix seconds.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._jobs = JobStore(database, clock)
        self._leases = LeaseStore(database)
        self._clock = clock

    def in_project(self, project_id: str) -> "JobQueue":
        """This queue for one project: the jobs that it takes are that project's."""
        view = copy.copy(self)
        view._jobs = self._jobs.in_project(project_id)
        return view

    def submit(self, job: Job, *, retry: RetryMark | None = None, daily_limit: int = 0) -> Job:
        """Store a new job with its first events, durably.

        Args:
            daily_limit: most jobs that the mark's key may create in 24 hours; 0: any number.

        Returns:
            The job; or the earlier one when the request repeats it (same idempotency key, or a client's retry of an
            attempt whose answer was lost).

        Raises:
            InvalidRequest: code ``idempotency_key_reused``: the key came with another body before.
            TooManyRequests: code ``daily_rate_limit_exceeded``.
        """
        return self._jobs.insert(job, lifecycle.creation_events(job), retry, daily_limit=daily_limit)

    def lease(self, owner: str, statuses: Sequence[JobStatus], seconds: float = LEASE_SECONDS) -> Job | None:
        """The next job for ``owner``, or None: the first of ``waiting``.

        The job's ``fence`` is the number of this lease; every write quotes it.
        """
        now = self._clock()
        return self._leases.acquire(owner, statuses, now, now + seconds)

    def waiting(self, statuses: Sequence[JobStatus], limit: int = 64) -> tuple[WaitingJob, ...]:
        """Jobs without a living lease, in fair order: statuses in the order given; then a job of each project in turn, beginning with
        the project that has the fewest leases; of a project by priority, then the oldest."""
        return self._leases.waiting(statuses, self._clock(), limit=limit)

    def take(self, job_id: str, owner: str, seconds: float = LEASE_SECONDS) -> Job | None:
        """Lease this very job; None when somebody else has it, or it does not wait any more."""
        now = self._clock()
        return self._leases.acquire_job(job_id, owner, now, now + seconds)

    def others_train(self, job_id: str) -> bool:
        """Whether any job but this one is running under a lease."""
        return self._leases.num_training(self._clock(), but=job_id) > 0

    def renew(self, job_id: str, fence: int, seconds: float = LEASE_SECONDS) -> Job:
        """The lease lives ``seconds`` from now; returns the job as it stands.

        Raises:
            NotFound: no such job.
            StaleLease: the number is no longer the job's (cancelled, abandoned, leased to another), or the job is finished.
        """
        return self._leases.renew(job_id, fence, self._clock() + seconds)

    def release(self, job_id: str, fence: int) -> None:
        """Give the lease up; its number is void. Does nothing when the lease is over already."""
        self._leases.release(job_id, fence)

    def abandon_leases(self) -> int:
        """End all leases, as a worker does at its start with those of processes before it; returns how many there were."""
        return self._leases.void_all()

    def record_crash(self, job_id: str, fence: int, *, progressed: bool, max_attempts: int = 3) -> Job:
        """The runner died under this lease: the lease ends, and after ``max_attempts`` in a row without progress the job fails.

        Args:
            progressed: a new resume state was completed since the lease began.

        Raises:
            NotFound: no such job.
            StaleLease: the number is no longer the job's, or the job is finished: there is nothing to record.
        """
        now = self._clock()
        return self._jobs.decide(
            job_id, lambda job: lifecycle.crashed(job, now, progressed=progressed, max_attempts=max_attempts), fence=fence
        )
