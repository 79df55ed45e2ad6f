"""Leases on jobs: who may run one, under which number, until when.

What it does: gives, renews and ends leases, each in one transaction. What it does not: decide statuses or times. Called
by ``jobs/queue.py``. A number is good from the lease that drew it until that lease is given up, taken away, or followed
by another; it never comes back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import case, func, select, update

from luthier.core.jobs import Job, JobStatus
from luthier.storage import schema
from luthier.storage.database import Database
from luthier.storage.jobs import LEASE_ENDED, load_job, load_leased

_JOBS = schema.jobs
_RUNNABLE = (JobStatus.VALIDATING_FILES.value, JobStatus.QUEUED.value, JobStatus.RUNNING.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingJob:
    """A job that could be leased."""

    job: Job
    project_id: str
    priority: int
    turn: int
    """How many jobs its project would then have had: those that it has leased now, and those before this one."""


class LeaseStore:
    """The lease columns of the table of jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, owner: str, statuses: Sequence[JobStatus], now: float, expires_at: float) -> Job | None:
        """Lease the first of ``waiting``; None when nobody waits."""
        while found := self.waiting(statuses, now, limit=1):
            job = self.acquire_job(found[0].job.id, owner, now, expires_at)
            if job is not None:
                return job
        return None

    def waiting(self, statuses: Sequence[JobStatus], now: float, *, limit: int) -> tuple[WaitingJob, ...]:
        """Jobs without a living lease: by the order of ``statuses``, then in turn from each project, the one with the fewest leases first;
        of each project by priority, then the oldest."""
        order = {status.value: position for position, status in enumerate(statuses)}
        if not order:
            return ()
        other, mine = _JOBS.alias(), _JOBS.c
        held = (
            select(func.count())
            .where(other.c.project_id == mine.project_id, other.c.lease_expires_at > now, other.c.status.in_(tuple(order)))
            .scalar_subquery()
        )
        rank, priority = case(order, value=mine.status), func.coalesce(mine.options["priority"].as_integer(), 0)
        place = func.row_number().over(partition_by=mine.project_id, order_by=(rank, priority.desc(), mine.seq))
        free = mine.lease_expires_at.is_(None) | (mine.lease_expires_at <= now)
        query = (
            select(mine.id, mine.project_id, priority.label("priority"), (held + place).label("turn"))
            .where(mine.status.in_(tuple(order)), free)
            .order_by(rank, held + place, mine.seq)
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
            return tuple(
                WaitingJob(job=load_job(connection, row.id), project_id=row.project_id, priority=row.priority, turn=row.turn)
                for row in rows
            )

    def acquire_job(self, job_id: str, owner: str, now: float, expires_at: float) -> Job | None:
        """Lease this job; None when it has a living lease, or is finished or paused by now.

        What an earlier holder thought of its end is forgotten: until the new one has measured its own steps nobody knows.
        """
        free = _JOBS.c.lease_expires_at.is_(None) | (_JOBS.c.lease_expires_at <= now)
        mine = (_JOBS.c.id == job_id) & free & _JOBS.c.status.in_(_RUNNABLE)
        with self._database.write() as connection:
            values = {"fence": _JOBS.c.fence + 1, "lease_owner": owner, "lease_expires_at": expires_at, "estimated_finish": None}
            taken = connection.execute(update(_JOBS).where(mine).values(values)).rowcount
            return load_job(connection, job_id) if taken else None

    def num_training(self, now: float, *, but: str) -> int:
        """Running jobs with a living lease, without one of them."""
        held = (_JOBS.c.status == JobStatus.RUNNING.value) & (_JOBS.c.lease_expires_at > now) & (_JOBS.c.id != but)
        with self._database.read() as connection:
            return connection.execute(select(func.count()).where(held)).scalar_one()

    def renew(self, job_id: str, fence: int, expires_at: float) -> Job:
        """Move a lease's end.

        Raises:
            NotFound: no such job.
            StaleLease: the number is no longer the job's, or the job is finished.
        """
        with self._database.write() as connection:
            load_leased(connection, job_id, fence)
            connection.execute(update(_JOBS).where(_JOBS.c.id == job_id).values(lease_expires_at=expires_at))
            return load_job(connection, job_id)

    def release(self, job_id: str, fence: int) -> None:
        """End a lease; does nothing when it is over already."""
        mine = (_JOBS.c.id == job_id) & (_JOBS.c.fence == fence) & _JOBS.c.lease_owner.is_not(None)
        with self._database.write() as connection:
            connection.execute(update(_JOBS).where(mine).values(fence=_JOBS.c.fence + 1, **LEASE_ENDED))

    def void_all(self) -> int:
        """End every lease; returns how many there were."""
        with self._database.write() as connection:
            held = update(_JOBS).where(_JOBS.c.lease_owner.is_not(None))
            return connection.execute(held.values(fence=_JOBS.c.fence + 1, **LEASE_ENDED)).rowcount
