"""Leases on jobs: who may run one, under which number, until when.

What it does: gives, renews and ends leases, each in one transaction. What it does not: decide statuses or times. Called
by ``jobs/queue.py``. A number is good from the lease that drew it until that lease is given up, taken away, or followed
by another; it never comes back.
"""

from collections.abc import Sequence

from sqlalchemy import case, select, update

from luthier.core.jobs import Job, JobStatus
from luthier.storage import schema
from luthier.storage.database import Database
from luthier.storage.jobs import LEASE_ENDED, load_job, load_leased

_JOBS = schema.jobs


class LeaseStore:
    """The lease columns of the table of jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, owner: str, statuses: Sequence[JobStatus], now: float, expires_at: float) -> Job | None:
        """Lease the first job without a living lease: by the order of ``statuses``, then the oldest; None when there is none."""
        order = {status.value: position for position, status in enumerate(statuses)}
        if not order:
            return None
        free = _JOBS.c.lease_expires_at.is_(None) | (_JOBS.c.lease_expires_at <= now)
        query = (
            select(_JOBS.c.id)
            .where(_JOBS.c.status.in_(tuple(order)), free)
            .order_by(case(order, value=_JOBS.c.status), _JOBS.c.seq)
            .limit(1)
        )
        with self._database.read() as connection:
            # Idle workers ask often; only one that has seen a job takes the write lock, and then looks again.
            if connection.execute(query).first() is None:
                return None
        with self._database.write() as connection:
            job_id = connection.execute(query).scalar_one_or_none()
            if job_id is None:
                return None
            values = {"fence": _JOBS.c.fence + 1, "lease_owner": owner, "lease_expires_at": expires_at}
            connection.execute(update(_JOBS).where(_JOBS.c.id == job_id).values(values))
            return load_job(connection, job_id)

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
