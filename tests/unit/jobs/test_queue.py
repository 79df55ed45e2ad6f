"""The queue: in once, out in order, one owner at a time."""

import pytest

from luthier.core.errors import NotFound, StaleLease
from luthier.core.jobs import Job, JobStatus
from luthier.jobs.queue import JobQueue, RetryMark
from luthier.storage.database import Database
from luthier.storage.jobs import JobStore
from tests.support.office import START, Clock, new_job, note

S = JobStatus
ANY = (S.VALIDATING_FILES, S.QUEUED, S.RUNNING)


@pytest.fixture
def queue(database: Database, clock: Clock) -> JobQueue:
    return JobQueue(database, clock)


@pytest.fixture
def jobs(database: Database, clock: Clock) -> JobStore:
    return JobStore(database, clock)


def leased(queue: JobQueue, owner: str = "one") -> Job:
    job = queue.lease(owner, ANY)
    assert job is not None
    return job


def test_submitted_job_has_its_two_events(queue: JobQueue, jobs: JobStore) -> None:
    job = new_job(validation_file="file-V")
    assert queue.submit(job) == job
    assert jobs.get(job.id) == job
    assert [event.message for event in jobs.events_since(job.id, 0)] == [
        f"Created fine-tuning job: {job.id}",
        "Validating training file: file-training and validation file: file-V",
    ]


def test_retry_of_a_lost_answer_gets_the_job_as_it_stands(queue: JobQueue, jobs: JobStore) -> None:
    def mark(count: int) -> RetryMark:
        return RetryMark(api_key_id="key", body_sha256="body", retry_count=count, received_at=START + count)

    first = queue.submit(new_job(), retry=mark(0))
    jobs.update(first.id, fence=0, changes={"status": S.QUEUED}, events=[note("queued")])
    again = queue.submit(new_job(), retry=mark(1))
    assert (again.id, again.status) == (first.id, S.QUEUED)
    assert len(jobs.list().items) == 1
    assert len(jobs.events_since(first.id, 0)) == 3


def test_lease_takes_statuses_in_order_then_the_oldest(queue: JobQueue) -> None:
    made = [queue.submit(new_job(status=status)) for status in (S.RUNNING, S.QUEUED, S.VALIDATING_FILES, S.QUEUED, S.PAUSED, S.FAILED)]
    order = []
    while (job := queue.lease("one", (S.QUEUED, S.RUNNING))) is not None:
        order.append(job.id)
    assert order == [made[1].id, made[3].id, made[0].id]


def test_lease_draws_a_number_and_lives_as_told(queue: JobQueue, clock: Clock) -> None:
    submitted = queue.submit(new_job())
    job = queue.lease("one", ANY, seconds=10)
    assert job is not None
    assert (job.id, job.fence, job.lease_owner, job.lease_expires_at) == (submitted.id, 1, "one", START + 10)
    clock.now += 9.5
    assert queue.lease("two", ANY) is None
    clock.now += 0.5
    later = leased(queue, "two")
    assert (later.fence, later.lease_owner, later.lease_expires_at) == (2, "two", START + 25)


def test_renewal_keeps_the_lease_alive(queue: JobQueue, clock: Clock) -> None:
    queue.submit(new_job())
    job = leased(queue)
    clock.now += 10
    renewed = queue.renew(job.id, job.fence)
    assert (renewed.lease_expires_at, renewed.fence) == (START + 25, job.fence)
    clock.now += 10
    assert queue.lease("two", ANY) is None


def test_late_owner_may_renew_until_another_came(queue: JobQueue, clock: Clock) -> None:
    queue.submit(new_job())
    job = leased(queue)
    clock.now += 60
    queue.renew(job.id, job.fence)
    clock.now += 60
    leased(queue, "two")
    with pytest.raises(StaleLease):
        queue.renew(job.id, job.fence)


def test_renewal_of_what_is_over(queue: JobQueue, jobs: JobStore) -> None:
    queue.submit(new_job())
    job = leased(queue)
    jobs.update(job.id, fence=job.fence, changes={"status": S.FAILED}, events=[note("no")])
    with pytest.raises(StaleLease):
        queue.renew(job.id, job.fence)
    with pytest.raises(NotFound):
        queue.renew("ftjob-unknown", 1)


def test_released_job_is_free_and_its_number_void(queue: JobQueue, jobs: JobStore) -> None:
    queue.submit(new_job())
    job = leased(queue)
    queue.release(job.id, job.fence)
    with pytest.raises(StaleLease):
        jobs.update(job.id, fence=job.fence, changes={"progress_step": 1})
    again = leased(queue, "two")
    assert again.fence > job.fence
    queue.release(job.id, job.fence)
    assert jobs.get(job.id) == again


def test_abandoned_leases_are_free_at_once_and_void(queue: JobQueue, jobs: JobStore) -> None:
    queue.submit(new_job())
    queue.submit(new_job())
    old = leased(queue, "dead")
    assert queue.abandon_leases() == 1
    assert queue.abandon_leases() == 0
    with pytest.raises(StaleLease):
        jobs.update(old.id, fence=old.fence, events=[note("ghost")])
    new = leased(queue, "alive")
    assert new.id == old.id
    assert new.fence > old.fence


def test_crash_frees_the_job_and_the_third_without_progress_fails_it(queue: JobQueue, jobs: JobStore) -> None:
    queue.submit(new_job(status=S.RUNNING))
    for attempts in (1, 2):
        job = leased(queue)
        after = queue.record_crash(job.id, job.fence, progressed=False)
        assert (after.status, after.attempts, after.lease_owner, after.lease_expires_at) == (S.RUNNING, attempts, None, None)
        with pytest.raises(StaleLease):
            queue.record_crash(job.id, job.fence, progressed=False)
    job = leased(queue)
    after = queue.record_crash(job.id, job.fence, progressed=False)
    assert (after.status, after.finished_at, after.lease_owner) == (S.FAILED, START, None)
    assert after.error == {"code": "server_error", "message": "The job failed due to an internal error.", "param": None}
    assert jobs.events(job.id, limit=1).items[0].level == "error"
    assert queue.lease("one", ANY) is None


def test_progress_forgives_earlier_crashes(queue: JobQueue) -> None:
    queue.submit(new_job(status=S.RUNNING))
    for progressed in (False, False, True, False, False):
        job = leased(queue)
        after = queue.record_crash(job.id, job.fence, progressed=progressed)
    assert (after.status, after.attempts) == (S.RUNNING, 2)


def test_restarted_queue_keeps_the_order(queue: JobQueue, database: Database, clock: Clock) -> None:
    made = [queue.submit(new_job(created_at=START - n)) for n in range(20)]
    other = JobQueue(database, clock)
    order = []
    while (job := other.lease("one", ANY)) is not None:
        order.append(job.id)
    assert order == [job.id for job in made]


def test_projects_take_turns_and_the_one_with_fewest_leases_begins(queue: JobQueue) -> None:
    """Ten jobs of one project do not come before the first of another."""
    many = [queue.in_project("proj_many").submit(new_job(status=S.QUEUED)) for _ in range(3)]
    few = [queue.in_project("proj_few").submit(new_job(status=S.QUEUED)) for _ in range(2)]
    assert [w.job.id for w in queue.waiting([S.QUEUED])] == [many[0].id, few[0].id, many[1].id, few[1].id, many[2].id]
    assert [w.project_id for w in queue.waiting([S.QUEUED], limit=2)] == ["proj_many", "proj_few"]
    for job in many[:2]:
        assert queue.take(job.id, "one") is not None
    assert [(w.job.id, w.turn) for w in queue.waiting([S.QUEUED])] == [(few[0].id, 1), (few[1].id, 2), (many[2].id, 3)]


def test_priority_orders_a_projects_own_jobs_and_nobody_elses(queue: JobQueue) -> None:
    old = queue.in_project("proj_a").submit(new_job(status=S.QUEUED))
    low = queue.in_project("proj_a").submit(new_job(status=S.QUEUED, options={"priority": -1}))
    urgent = queue.in_project("proj_a").submit(new_job(status=S.QUEUED, options={"priority": 2}))
    other = queue.in_project("proj_b").submit(new_job(status=S.QUEUED))
    waiting = queue.waiting([S.QUEUED])
    assert [w.job.id for w in waiting] == [urgent.id, other.id, old.id, low.id]
    assert {w.job.id: w.priority for w in waiting} == {old.id: 0, low.id: -1, urgent.id: 2, other.id: 0}


def test_take_leases_this_very_job_once(queue: JobQueue, clock: Clock) -> None:
    first, second = (queue.submit(new_job(status=S.QUEUED)) for _ in range(2))
    taken = queue.take(second.id, "one", seconds=10)
    assert taken is not None
    assert (taken.id, taken.fence, taken.lease_expires_at) == (second.id, 1, START + 10)
    assert queue.take(second.id, "two") is None
    clock.now += 10
    assert queue.take(second.id, "two") is not None
    for status in (S.PAUSED, S.FAILED, S.SUCCEEDED):
        assert queue.take(queue.submit(new_job(status=status)).id, "one") is None
    assert queue.take("ftjob-unknown", "one") is None
    assert [w.job.id for w in queue.waiting([S.QUEUED])] == [first.id]


def test_who_trains_beside_a_job(queue: JobQueue, jobs: JobStore) -> None:
    one, two = (queue.submit(new_job(status=S.QUEUED)) for _ in range(2))
    for job in (one, two):
        leased_job = queue.take(job.id, "one")
        assert leased_job is not None
        assert not queue.others_train(job.id if job is one else one.id), "leased, and not running yet"
    jobs.update(two.id, fence=1, changes={"status": S.RUNNING}, events=[note("running")])
    assert queue.others_train(one.id)
    assert not queue.others_train(two.id)
