"""The lease columns: one owner at a time, and numbers that never come back."""

import threading

import pytest

from luthier.core.errors import NotFound, StaleLease
from luthier.core.jobs import JobStatus
from luthier.storage.database import Database
from luthier.storage.jobs import JobStore
from luthier.storage.leases import LeaseStore
from tests.support.office import START, new_job

S = JobStatus


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


@pytest.fixture
def leases(database: Database) -> LeaseStore:
    return LeaseStore(database)


def test_many_owners_share_no_job(jobs: JobStore, leases: LeaseStore) -> None:
    for _ in range(10):
        jobs.insert(new_job(), [])
    got: list[str] = []

    def take(owner: str) -> None:
        while (job := leases.acquire(owner, [S.VALIDATING_FILES], START, START + 15)) is not None:
            assert job.lease_owner == owner
            got.append(job.id)

    threads = [threading.Thread(target=take, args=(f"owner-{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 10
    assert len(set(got)) == 10


def test_no_statuses_lease_nothing(jobs: JobStore, leases: LeaseStore) -> None:
    jobs.insert(new_job(), [])
    assert leases.acquire("one", [], START, START + 15) is None


def test_renew_and_release_are_the_holders(jobs: JobStore, leases: LeaseStore) -> None:
    jobs.insert(new_job(), [])
    job = leases.acquire("one", [S.VALIDATING_FILES], START, START + 15)
    assert job is not None
    assert leases.renew(job.id, job.fence, START + 20).lease_expires_at == START + 20
    with pytest.raises(StaleLease):
        leases.renew(job.id, job.fence - 1, START + 99)
    with pytest.raises(NotFound):
        leases.renew("ftjob-unknown", 1, START + 99)
    leases.release(job.id, job.fence - 1)
    assert jobs.get(job.id) == leases.renew(job.id, job.fence, START + 20)
    leases.release(job.id, job.fence)
    free = jobs.get(job.id)
    assert free is not None
    assert (free.lease_owner, free.lease_expires_at, free.fence) == (None, None, job.fence + 1)
    leases.release(job.id, free.fence)
    assert jobs.get(job.id) == free


def test_a_new_holder_starts_without_the_estimate_of_the_one_before(jobs: JobStore, leases: LeaseStore) -> None:
    made = jobs.insert(new_job(status=S.RUNNING, estimated_finish=int(START) + 900), events=[])
    leases.void_all()
    job = leases.acquire("after the restart", [S.RUNNING], START, START + 15)
    assert job is not None
    assert (job.id, job.estimated_finish) == (made.id, None)


def test_void_all_ends_held_leases_only(jobs: JobStore, leases: LeaseStore) -> None:
    for _ in range(3):
        jobs.insert(new_job(), [])
    held = [leases.acquire("one", [S.VALIDATING_FILES], START, START + 15) for _ in range(2)]
    assert leases.void_all() == 2
    assert leases.void_all() == 0
    for job in held:
        assert job is not None
        with pytest.raises(StaleLease):
            leases.renew(job.id, job.fence, START + 30)
    assert sorted(job.fence for job in jobs.list().items) == [0, 2, 2]
