"""What a caller may do to a job that exists.

What it does: cancels, pauses, resumes. What it does not: talk to the runner, which learns of it when its next write or
renewal is refused. Called by ``api``.
"""

import copy
import time
from collections.abc import Callable

from luthier.core.jobs import Job
from luthier.jobs import lifecycle
from luthier.storage.database import Database
from luthier.storage.jobs import JobStore


class JobControl:
    """A caller's wishes.

    Args:
        database: migrated.
        clock: Unix seconds.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._jobs = JobStore(database, clock)
        self._clock = clock

    def in_project(self, project_id: str) -> "JobControl":
        """This control for one project: no other project's job is there."""
        view = copy.copy(self)
        view._jobs = self._jobs.in_project(project_id)
        return view

    def cancel(self, job_id: str) -> Job:
        """The job is cancelled at once, with its event, in one transaction.

        Raises:
            NotFound: no such job.
            InvalidRequest: the job is finished.
        """
        now = self._clock()
        return self._jobs.decide(job_id, lambda job: lifecycle.cancelled(job, now))

    def pause(self, job_id: str) -> Job:
        """The job is paused at once, with its event, in one transaction; nobody leases it until it is resumed.

        Raises:
            NotFound: no such job.
            InvalidRequest: the job is finished, or paused already.
        """
        now = self._clock()
        return self._jobs.decide(job_id, lambda job: lifecycle.paused(job, now))

    def resume(self, job_id: str) -> Job:
        """The job waits for a worker again, and goes on from its newest resume state.

        Raises:
            NotFound: no such job.
            InvalidRequest: the job is finished, or not paused.
        """
        now = self._clock()
        return self._jobs.decide(job_id, lambda job: lifecycle.resumed(job, now))
