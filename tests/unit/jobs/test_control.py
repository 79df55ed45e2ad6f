"""Cancelling, pausing and resuming: at once, once, whatever the runner does."""

import threading

import pytest

from luthier.core.errors import InvalidRequest, NotFound, StaleLease
from luthier.core.jobs import JobStatus
from luthier.jobs.control import JobControl
from luthier.jobs.queue import JobQueue
from luthier.storage.database import Database
from luthier.storage.jobs import JobStore
from tests.support.office import START, Clock, new_job, note

S = JobStatus


@pytest.fixture
def control(database: Database, clock: Clock) -> JobControl:
    return JobControl(database, clock)


@pytest.fixture
def jobs(database: Database, clock: Clock) -> JobStore:
    return JobStore(database, clock)


@pytest.mark.parametrize("status", [s for s in S if not s.is_final])
def test_cancelled_at_once_with_its_event(control: JobControl, jobs: JobStore, clock: Clock, status: JobStatus) -> None:
    job = jobs.insert(new_job(status=status), [])
    clock.now += 5
    after = control.cancel(job.id)
    assert (after.status, after.finished_at, after.cancel_requested) == (S.CANCELLED, START + 5, True)
    (event,) = jobs.events_since(job.id, 0)
    assert (event.level, event.message) == ("warn", "Fine tuning process stopping due to job cancellation")


@pytest.mark.parametrize("status", [s for s in S if s.is_final])
def test_finished_job_stays(control: JobControl, jobs: JobStore, status: JobStatus) -> None:
    job = jobs.insert(new_job(status=status), [])
    with pytest.raises(InvalidRequest, match="already completed"):
        control.cancel(job.id)
    assert jobs.get(job.id) == job
    assert jobs.events_since(job.id, 0) == ()


def test_unknown_job(control: JobControl) -> None:
    with pytest.raises(NotFound) as caught:
        control.cancel("ftjob-unknown")
    assert (caught.value.code, caught.value.param) == ("fine_tune_not_found", "fine_tune_id")


def test_runner_notices_by_its_next_write_or_renewal(control: JobControl, jobs: JobStore, database: Database, clock: Clock) -> None:
    queue = JobQueue(database, clock)
    queue.submit(new_job(status=S.RUNNING))
    job = queue.lease("one", [S.RUNNING])
    assert job is not None
    after = control.cancel(job.id)
    assert (after.lease_owner, after.fence) == (None, job.fence + 1)
    with pytest.raises(StaleLease):
        jobs.update(job.id, fence=job.fence, changes={"status": S.SUCCEEDED}, events=[note("done")])
    with pytest.raises(StaleLease):
        queue.renew(job.id, job.fence)
    with pytest.raises(StaleLease):
        queue.record_crash(job.id, job.fence, progressed=False)
    queue.release(job.id, job.fence)
    assert jobs.get(job.id) == after


def test_cancel_and_success_at_once_give_exactly_one(control: JobControl, jobs: JobStore, database: Database, clock: Clock) -> None:
    queue = JobQueue(database, clock)
    for _ in range(10):
        queue.submit(new_job(status=S.RUNNING))
        job = queue.lease("one", [S.RUNNING])
        assert job is not None
        outcomes: list[str] = []

        def cancel(job_id: str = job.id, outcomes: list[str] = outcomes) -> None:
            try:
                control.cancel(job_id)
                outcomes.append("cancelled")
            except InvalidRequest:
                pass

        def succeed(job_id: str = job.id, fence: int = job.fence, outcomes: list[str] = outcomes) -> None:
            try:
                jobs.update(job_id, fence=fence, changes={"status": S.SUCCEEDED}, events=[note("done")])
                outcomes.append("succeeded")
            except StaleLease:
                pass

        threads = [threading.Thread(target=cancel), threading.Thread(target=succeed)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        after = jobs.get(job.id)
        assert after is not None
        assert outcomes == [after.status]
        assert len(jobs.events_since(job.id, 0)) == 3


def test_a_paused_job_is_leased_only_after_it_is_resumed(control: JobControl, jobs: JobStore, database: Database, clock: Clock) -> None:
    queue = JobQueue(database, clock)
    queue.submit(new_job(status=S.RUNNING))
    job = queue.lease("one", [S.RUNNING])
    assert job is not None
    jobs.update(job.id, fence=job.fence, changes={"progress_step": 7, "estimated_finish": START + 99})
    paused = control.pause(job.id)
    assert (paused.status, paused.paused_from, paused.estimated_finish) == (S.PAUSED, S.RUNNING, None)
    assert (paused.lease_owner, paused.progress_step) == (None, 7)
    with pytest.raises(StaleLease):
        jobs.update(job.id, fence=job.fence, events=[note("a step too many")])
    with pytest.raises(StaleLease):
        queue.record_crash(job.id, job.fence, progressed=False)
    assert queue.lease("two", [S.VALIDATING_FILES, S.QUEUED, S.RUNNING]) is None
    resumed = control.resume(job.id)
    assert (resumed.status, resumed.paused_from) == (S.QUEUED, None)
    again = queue.lease("two", [S.RUNNING, S.QUEUED])
    assert again is not None
    assert (again.id, again.progress_step) == (job.id, 7)
    assert again.fence > job.fence
    assert [event.message for event in jobs.events_since(job.id, 0)][2:] == ["The job has been paused", "The job has been resumed"]


def test_a_job_paused_before_its_files_were_checked_has_them_checked(control: JobControl, jobs: JobStore) -> None:
    job = jobs.insert(new_job(), [])
    control.pause(job.id)
    stored = jobs.get(job.id)
    assert stored is not None
    assert stored.paused_from is S.VALIDATING_FILES
    assert control.resume(job.id).status is S.VALIDATING_FILES


def test_a_paused_job_survives_a_new_worker_and_can_be_cancelled(
    control: JobControl, jobs: JobStore, database: Database, clock: Clock
) -> None:
    job = jobs.insert(new_job(status=S.QUEUED), [])
    control.pause(job.id)
    JobQueue(database, clock).abandon_leases()
    waiting = jobs.get(job.id)
    assert waiting is not None
    assert waiting.status is S.PAUSED
    cancelled = control.cancel(job.id)
    assert (cancelled.status, cancelled.paused_from) == (S.CANCELLED, None)


@pytest.mark.parametrize("what", ["pause", "resume"])
def test_pause_and_resume_of_an_unknown_job(control: JobControl, what: str) -> None:
    with pytest.raises(NotFound) as caught:
        getattr(control, what)("ftjob-unknown")
    assert (caught.value.code, caught.value.param) == ("fine_tune_not_found", "fine_tune_id")
