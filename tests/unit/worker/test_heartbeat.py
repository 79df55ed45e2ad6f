"""The heartbeat: it notices a lost lease, and a stop, and keeps a living lease alive."""

import threading

import pytest

from luthier.core.jobs import JobStatus
from luthier.jobs.control import JobControl
from luthier.jobs.queue import JobQueue
from luthier.storage.database import Database
from luthier.storage.jobs import JobStore
from luthier.worker import heartbeat as module
from luthier.worker.heartbeat import Heartbeat
from tests.support.office import new_job


@pytest.mark.parametrize("wish", ["cancel", "pause"])
def test_a_cancelled_or_paused_job_stops_its_runner(database: Database, wish: str) -> None:
    queue = JobQueue(database)
    queue.submit(new_job(status=JobStatus.QUEUED))
    job = queue.lease("me", [JobStatus.QUEUED])
    assert job is not None
    pulse = Heartbeat(queue, JobStore(database), job)
    pulse.start()
    assert not pulse.should_stop()
    getattr(JobControl(database), wish)(job.id)
    assert pulse.lost.wait(timeout=30)
    assert pulse.should_stop()
    pulse.stop()


def test_a_living_lease_is_renewed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.0)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    queue, store = JobQueue(database), JobStore(database)
    queue.submit(new_job(status=JobStatus.QUEUED))
    job = queue.lease("me", [JobStatus.QUEUED], seconds=5.0)
    assert job is not None
    assert job.lease_expires_at is not None
    pulse = Heartbeat(queue, store, job)
    pulse.start()
    wanted = job.lease_expires_at + 5

    def expiry() -> float:
        current = store.get(job.id)
        return (current.lease_expires_at or 0.0) if current else 0.0

    for _ in range(500):
        if expiry() > wanted:
            break
        pulse.lost.wait(0.02)
    pulse.stop()
    assert expiry() > wanted
    assert not pulse.should_stop()


@pytest.mark.parametrize(("obeys", "killed"), [(True, False), (False, True)])
def test_only_a_loop_that_does_not_obey_is_ended_by_force(
    database: Database, monkeypatch: pytest.MonkeyPatch, obeys: bool, killed: bool
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "GRACE_SECONDS", 1.0)
    ended = threading.Event()
    monkeypatch.setattr(module.os, "_exit", lambda _code: ended.set())
    queue = JobQueue(database)
    queue.submit(new_job(status=JobStatus.QUEUED))
    job = queue.lease("me", [JobStatus.QUEUED])
    assert job is not None
    pulse = Heartbeat(queue, JobStore(database), job)
    pulse.start()
    JobControl(database).pause(job.id)
    assert pulse.lost.wait(timeout=30)
    if obeys:
        assert pulse.should_stop()
    # One that obeys still writes its resume state and the pause's checkpoint, beyond the grace.
    assert ended.wait(timeout=2.0 if obeys else 30) is killed
    pulse.stop()
