"""Endpoints, the outbox beside jobs, and leases on deliveries."""

import threading
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.jobs import Job, JobStatus
from luthier.core.webhooks import MAX_ENDPOINTS
from luthier.jobs.control import JobControl
from luthier.jobs.queue import JobQueue
from luthier.storage.database import Database
from luthier.storage.jobs import JobStore
from luthier.storage.webhooks import WebhookStore
from tests.support.office import START, Clock, new_database, new_file, new_job, note
from tests.support.webhook_receiver import new_endpoint

S = JobStatus
URL = "https://hooks.example.com/"


@pytest.fixture
def store(database: Database) -> WebhookStore:
    return WebhookStore(database)


@pytest.fixture
def jobs(database: Database, clock: Clock) -> JobStore:
    return JobStore(database, clock)


def finished(jobs: JobStore, status: JobStatus = S.SUCCEEDED) -> Job:
    job = jobs.insert(new_job(status=S.RUNNING), [])
    return jobs.update(job.id, fence=0, changes={"status": status}, events=[note("end")])


def test_endpoints_come_back_as_they_were(store: WebhookStore) -> None:
    made = [new_endpoint(URL, name=f"n{n}") for n in range(5)]
    for endpoint in made:
        store.insert(endpoint)
    assert store.get(made[2].id) == made[2]
    assert store.get("wh_unknown") is None
    first = store.list(limit=2)
    rest = store.list(limit=3, after=first.items[-1].id)
    assert list(first.items + rest.items) == made[::-1]
    assert (first.has_more, rest.has_more) == (True, False)
    with pytest.raises(NotFound):
        store.list(after="wh_unknown")


def test_there_are_no_more_endpoints_than_delivery_has_slots(store: WebhookStore) -> None:
    for _ in range(MAX_ENDPOINTS):
        store.insert(new_endpoint(URL))
    with pytest.raises(InvalidRequest, match="maximum"):
        store.insert(new_endpoint(URL))


def test_an_unchanged_update_is_no_change(store: WebhookStore) -> None:
    endpoint = new_endpoint(URL, event_types=("fine_tuning.job.failed",))
    store.insert(endpoint)
    assert store.update(endpoint.id, {"name": endpoint.name, "event_types": ("fine_tuning.job.failed",)}, START + 9) == endpoint
    changed = store.update(endpoint.id, {"name": "other"}, START + 9)
    assert changed is not None
    assert (changed.name, changed.updated_at, changed.url) == ("other", START + 9, URL)
    assert store.get(endpoint.id) == changed
    assert store.update("wh_unknown", {"name": "x"}, START) is None
    with pytest.raises(ValueError, match="secret"):
        store.update(endpoint.id, {"secret": "x"}, START)


def test_rotation_keeps_old_secrets_only_as_long_as_asked(store: WebhookStore) -> None:
    endpoint = new_endpoint(URL, secret="whsec_1")
    store.insert(endpoint)
    store.rotate(endpoint.id, "whsec_2", START, 100.0)
    twice = store.rotate(endpoint.id, "whsec_3", START + 50, 100.0)
    assert twice is not None
    assert twice == store.get(endpoint.id)
    assert twice.updated_at == START + 50
    assert twice.signing_secrets(START + 99) == ("whsec_3", "whsec_2", "whsec_1")
    assert twice.signing_secrets(START + 100) == ("whsec_3", "whsec_2")
    assert twice.signing_secrets(START + 150) == ("whsec_3",)
    at_once = store.rotate(endpoint.id, "whsec_4", START + 60, 0.0)
    assert at_once is not None
    assert at_once.signing_secrets(START + 60) == ("whsec_4",)
    assert store.rotate("wh_unknown", "whsec_5", START, 0.0) is None


@pytest.mark.parametrize(
    ("status", "event"),
    [
        (S.SUCCEEDED, "fine_tuning.job.succeeded"),
        (S.FAILED, "fine_tuning.job.failed"),
        (S.CANCELLED, "fine_tuning.job.cancelled"),
    ],
)
def test_a_final_move_owes_its_event_to_all_who_want_it(store: WebhookStore, jobs: JobStore, status: JobStatus, event: str) -> None:
    one, two = new_endpoint(URL), new_endpoint(URL, event_types=(event,))
    other = new_endpoint(URL, event_types=tuple({"fine_tuning.job.failed", "fine_tuning.job.succeeded"} - {event}))
    for endpoint in (one, two, other):
        store.insert(endpoint)
    job = finished(jobs, status)
    (first,), (second,) = store.owed(one.id), store.owed(two.id)
    assert store.owed(other.id) == []
    assert first.event == second.event
    assert (first.event.type, first.event.object_id, first.event.created_at) == (event, job.id, job.finished_at)
    assert first.id != second.id
    assert first.id.startswith("wh_")


def test_every_way_to_the_end_is_told(database: Database, store: WebhookStore, clock: Clock) -> None:
    endpoint = new_endpoint(URL)
    store.insert(endpoint)
    queue, control = JobQueue(database, clock), JobControl(database, clock)
    cancelled, crashed = queue.submit(new_job()), queue.submit(new_job())
    control.cancel(cancelled.id)
    leased = queue.lease("me", [S.VALIDATING_FILES])
    assert leased is not None
    queue.record_crash(leased.id, leased.fence, progressed=False, max_attempts=1)
    told = [(d.event.type, d.event.object_id) for d in store.owed(endpoint.id)]
    assert told == [("fine_tuning.job.cancelled", cancelled.id), ("fine_tuning.job.failed", crashed.id)]


def test_what_is_not_a_final_move_is_not_told(store: WebhookStore, jobs: JobStore) -> None:
    endpoint = new_endpoint(URL)
    store.insert(endpoint)
    job = jobs.insert(new_job(status=S.QUEUED), [])
    jobs.update(job.id, fence=0, changes={"status": S.RUNNING}, events=[note("go")])
    jobs.update(job.id, fence=0, changes={"progress_step": 3})
    jobs.update(job.id, fence=0, events=[note("step")])
    assert store.owed(endpoint.id) == []


def test_a_write_that_fails_tells_nothing(store: WebhookStore, jobs: JobStore) -> None:
    endpoint, file = new_endpoint(URL), new_file()
    store.insert(endpoint)
    job = jobs.insert(new_job(status=S.RUNNING), [])
    with pytest.raises(IntegrityError):
        jobs.update(job.id, fence=0, changes={"status": S.SUCCEEDED}, events=[note("end")], files=[file, file])
    assert jobs.get(job.id) == job
    assert store.owed(endpoint.id) == []


def test_a_crash_before_the_commit_takes_event_and_status_with_it(
    store: WebhookStore, jobs: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from luthier.storage import jobs as module

    endpoint = new_endpoint(URL)
    store.insert(endpoint)
    job = jobs.insert(new_job(status=S.RUNNING), [])
    real = module.enqueue

    def enqueue_and_die(*args: object, **named: object) -> None:
        real(*args, **named)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "enqueue", enqueue_and_die)
    with pytest.raises(KeyboardInterrupt):
        jobs.update(job.id, fence=0, changes={"status": S.SUCCEEDED}, events=[note("end")])
    assert jobs.get(job.id) == job
    assert store.owed(endpoint.id) == []


def test_a_claim_leases_the_oldest_due_of_each_endpoint(store: WebhookStore, jobs: JobStore) -> None:
    one, two = new_endpoint(URL), new_endpoint(URL)
    store.insert(one)
    store.insert(two)
    first, second = finished(jobs), finished(jobs)
    claimed = store.claim(START, 30.0, 100)
    assert [(e.id, d.event.object_id, d.attempts) for e, d in claimed] == [(one.id, first.id, 1), (two.id, first.id, 1)]
    assert store.claim(START, 30.0, 100) == []
    assert store.close(claimed[0][1])
    assert [(e.id, d.event.object_id) for e, d in store.claim(START, 30.0, 100)] == [(one.id, second.id)]


def test_a_claim_takes_no_more_than_asked(store: WebhookStore, jobs: JobStore) -> None:
    for _ in range(3):
        store.insert(new_endpoint(URL))
    finished(jobs)
    assert len(store.claim(START, 30.0, 2)) == 2
    assert len(store.claim(START, 30.0, 2)) == 1


def test_a_failed_delivery_waits_and_lets_the_next_pass(store: WebhookStore, jobs: JobStore) -> None:
    endpoint = new_endpoint(URL)
    store.insert(endpoint)
    first, second = finished(jobs), finished(jobs)
    ((_, delivery),) = store.claim(START, 30.0, 9)
    assert store.retry(delivery, START + 60.0)
    ((_, other),) = store.claim(START, 30.0, 9)
    assert other.event.object_id == second.id
    store.close(other)
    assert store.claim(START + 59.0, 30.0, 9) == []
    ((_, again),) = store.claim(START + 60.0, 30.0, 9)
    assert (again.id, again.event.object_id, again.attempts) == (delivery.id, first.id, 2)


def test_a_lease_that_ran_out_can_be_taken_and_its_holder_notes_nothing_more(store: WebhookStore, jobs: JobStore) -> None:
    endpoint = new_endpoint(URL)
    store.insert(endpoint)
    finished(jobs)
    ((_, lost),) = store.claim(START, 30.0, 9)
    assert store.claim(START + 29.0, 30.0, 9) == []
    ((_, taken),) = store.claim(START + 30.0, 30.0, 9)
    assert not store.retry(lost, START)
    assert not store.close(lost)
    assert store.owed(endpoint.id) == [taken]
    assert store.close(taken)
    assert not store.close(taken)


def test_a_deleted_endpoint_is_owed_nothing(store: WebhookStore, jobs: JobStore) -> None:
    gone, stays = new_endpoint(URL), new_endpoint(URL)
    store.insert(gone)
    store.insert(stays)
    finished(jobs)
    held = next(d for e, d in store.claim(START, 30.0, 9) if e == gone)
    assert store.delete(gone.id)
    assert not store.delete(gone.id)
    assert store.owed(gone.id) == []
    assert len(store.owed(stays.id)) == 1
    assert not store.close(held)
    assert not store.retry(held, START)


def test_two_processes_never_claim_the_same(tmp_path: Path) -> None:
    database = new_database(tmp_path)
    store = WebhookStore(database)
    for _ in range(20):
        store.insert(new_endpoint(URL))
    finished(JobStore(database, Clock()))
    got: list[str] = []

    def take() -> None:
        own = WebhookStore(Database(tmp_path / "state.db"))
        while claimed := own.claim(START, 30.0, 3):
            got.extend(delivery.id for _, delivery in claimed)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == len(set(got)) == 20
