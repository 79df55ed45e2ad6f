"""Jobs: rows, pages, events without gaps, and writes that happen whole or not at all."""

import threading
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from luthier.core.errors import NotFound, StaleLease
from luthier.core.jobs import ALLOWED_MOVES, Job, JobStatus
from luthier.storage.database import Database
from luthier.storage.files import FileStore
from luthier.storage.jobs import JobStore, JobWrite
from luthier.storage.models import ModelStore
from tests.support.office import START, Clock, new_checkpoint, new_file, new_job, new_model, note

S = JobStatus


@pytest.fixture
def jobs(database: Database, clock: Clock) -> JobStore:
    return JobStore(database, clock)


def insert(jobs: JobStore, **changes: Any) -> Job:
    return jobs.insert(new_job(**changes), [note("first"), note("second")])


def messages(jobs: JobStore, job: Job) -> list[str]:
    return [event.message for event in jobs.events_since(job.id, 0)]


def test_job_comes_back_as_it_was(jobs: JobStore) -> None:
    job = new_job(
        parent_model="ft:x",
        status=S.PAUSED,
        validation_file="file-v",
        validation_sha256="c" * 64,
        legacy_hyperparameters=True,
        options={"rank": 8},
        suffix="süffix",
        metadata={"k": "v"},
        integrations=[{"type": "wandb"}],
        fine_tuned_model="ft:y",
        finished_at=START + 1,
        estimated_finish=START + 2,
        trained_tokens=2**40,
        result_files=("file-a", "file-b"),
        error={"code": "c", "message": "m", "param": None},
        cancel_requested=True,
        fence=3,
        lease_owner="owner",
        lease_expires_at=START + 0.5,
        attempts=2,
        progress_step=9,
    )
    assert jobs.insert(job, []) == job
    assert jobs.get(job.id) == job
    plain = new_job()
    jobs.insert(plain, [])
    assert jobs.get(plain.id) == plain
    assert jobs.get("ftjob-unknown") is None


def test_list_is_newest_first_by_insertion(jobs: JobStore) -> None:
    made = [insert(jobs, created_at=START - n) for n in range(5)]
    first = jobs.list(limit=2)
    assert list(first.items) == made[:2:-1]
    assert first.has_more
    rest = jobs.list(limit=3, after=first.items[-1].id)
    assert list(rest.items) == made[2::-1]
    assert not rest.has_more


def test_unknown_cursors(jobs: JobStore) -> None:
    job, other = insert(jobs), insert(jobs)
    foreign = jobs.events(other.id).items[0].id
    for call in (
        lambda: jobs.list(after="ftjob-unknown"),
        lambda: jobs.events(job.id, after=foreign),
        lambda: jobs.checkpoints(job.id, after="ftckpt_unknown"),
    ):
        with pytest.raises(NotFound) as caught:
            call()
        assert caught.value.param == "after"


def test_metadata_filter_is_equality_of_every_pair(jobs: JobStore) -> None:
    both = insert(jobs, metadata={"a": "1", 'b."c': ""})
    one = insert(jobs, metadata={"a": "1"})
    empty = insert(jobs, metadata={})
    none = insert(jobs, metadata=None)

    def found(**query: Any) -> list[Job]:
        return list(jobs.list(**query).items)

    assert found(metadata={"a": "1"}) == [one, both]
    assert found(metadata={"a": "1", 'b."c': ""}) == [both]
    assert found(metadata={"a": "%"}) == []
    assert found(metadata={"x": "1"}) == []
    assert found(metadata={}) == [none, empty, one, both]
    assert found(metadata_is_null=True) == [none]


def test_events_have_no_gaps_and_pages_join(jobs: JobStore) -> None:
    job, other = insert(jobs), insert(jobs)
    for n in range(3):
        jobs.update(job.id, fence=0, events=[note(f"{n}a"), note(f"{n}b", type="metrics", data={"step": n})])
        jobs.update(other.id, fence=0, events=[note("other")])
    events = jobs.events_since(job.id, 0)
    assert [event.sequence for event in events] == list(range(1, 9))
    assert [event.message for event in events] == ["first", "second", "0a", "0b", "1a", "1b", "2a", "2b"]
    assert events[-1].data == {"step": 2}
    assert events[0].data is None
    assert len({event.id for event in events}) == 8
    assert jobs.events_since(job.id, 6) == events[6:]
    newest = jobs.events(job.id, limit=5)
    older = jobs.events(job.id, limit=5, after=newest.items[-1].id)
    assert newest.items + older.items == events[::-1]
    assert (newest.has_more, older.has_more) == (True, False)


def test_thousands_of_events_in_one_write(jobs: JobStore) -> None:
    job = insert(jobs)
    jobs.update(job.id, fence=0, events=[note(f"Step {n}/3000", type="metrics", data={"step": n}) for n in range(3000)])
    assert [event.sequence for event in jobs.events_since(job.id, 0)] == list(range(1, 3003))
    assert jobs.events(job.id, limit=1).items[0].message == "Step 2999/3000"


def test_events_stay_gap_free_when_threads_write(jobs: JobStore) -> None:
    job = insert(jobs)
    threads = [threading.Thread(target=lambda: [jobs.update(job.id, fence=0, events=[note("e")] * 2) for _ in range(5)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event.sequence for event in jobs.events_since(job.id, 0)] == list(range(1, 63))


def test_update_writes_everything(database: Database, jobs: JobStore) -> None:
    job = insert(jobs, status=S.RUNNING, estimated_finish=START + 50)
    model, file, checkpoint = new_model("ft:m", job_id=job.id), new_file(purpose="fine-tune-results"), new_checkpoint(job.id, 5)
    after = jobs.update(
        job.id,
        fence=0,
        changes={"status": S.SUCCEEDED, "fine_tuned_model": "ft:m", "result_files": (file.id,), "trained_tokens": 10},
        events=[note("done")],
        checkpoints=[checkpoint],
        models=[model],
        files=[file],
    )
    assert after == jobs.get(job.id)
    assert (after.status, after.fine_tuned_model, after.result_files, after.trained_tokens) == (S.SUCCEEDED, "ft:m", (file.id,), 10)
    assert ModelStore(database).get("ft:m") == model
    assert FileStore(database).get(file.id) == file
    assert jobs.checkpoints(job.id).items == (checkpoint,)
    assert messages(jobs, job)[-1] == "done"


def test_update_that_fails_at_its_last_row_changes_nothing(database: Database, jobs: JobStore) -> None:
    job = insert(jobs, status=S.RUNNING)
    file = new_file()
    FileStore(database).add(file)
    with pytest.raises(IntegrityError):
        jobs.update(
            job.id,
            fence=0,
            changes={"status": S.SUCCEEDED},
            events=[note("done")],
            checkpoints=[new_checkpoint(job.id, 5)],
            models=[new_model("ft:m")],
            files=[file],
        )
    assert jobs.get(job.id) == job
    assert messages(jobs, job) == ["first", "second"]
    assert jobs.checkpoints(job.id).items == ()
    assert ModelStore(database).get("ft:m") is None


def test_update_refuses_a_stale_fence(jobs: JobStore) -> None:
    job = insert(jobs, fence=4)
    for fence in (3, 5, 0):
        with pytest.raises(StaleLease):
            jobs.update(job.id, fence=fence, changes={"progress_step": 1}, events=[note("late")])
    assert jobs.get(job.id) == job
    assert messages(jobs, job) == ["first", "second"]


@pytest.mark.parametrize("status", [s for s in S if s.is_final])
def test_update_refuses_a_finished_job(jobs: JobStore, status: JobStatus) -> None:
    job = insert(jobs, status=status)
    with pytest.raises(StaleLease):
        jobs.update(job.id, fence=0, events=[note("late")])
    assert messages(jobs, job) == ["first", "second"]


def test_update_of_an_unknown_job(jobs: JobStore) -> None:
    with pytest.raises(NotFound) as caught:
        jobs.update("ftjob-unknown", fence=0)
    assert (caught.value.code, caught.value.param) == ("fine_tune_not_found", "fine_tune_id")


@pytest.mark.parametrize("source", [s for s in S if not s.is_final])
@pytest.mark.parametrize("target", list(S))
def test_only_allowed_moves_are_written(jobs: JobStore, source: JobStatus, target: JobStatus) -> None:
    job = insert(jobs, status=source)
    if target in ALLOWED_MOVES[source] or target is source:
        assert jobs.update(job.id, fence=0, changes={"status": target}, events=[note("moved")]).status is target
    else:
        with pytest.raises(ValueError, match="cannot become"):
            jobs.update(job.id, fence=0, changes={"status": target}, events=[note("moved")])
        assert jobs.get(job.id) == job


def test_new_status_needs_an_event(jobs: JobStore) -> None:
    job = insert(jobs)
    with pytest.raises(ValueError, match="event"):
        jobs.update(job.id, fence=0, changes={"status": S.QUEUED})
    assert jobs.get(job.id) == job


@pytest.mark.parametrize("name", ["fence", "lease_owner", "lease_expires_at", "id", "created_at", "nonsense", "seq"])
def test_fields_that_a_runner_may_not_set(jobs: JobStore, name: str) -> None:
    job = insert(jobs)
    with pytest.raises(ValueError, match=name):
        jobs.update(job.id, fence=0, changes={name: 1})
    assert jobs.get(job.id) == job


def test_final_status_completes_the_job(jobs: JobStore, clock: Clock) -> None:
    job = insert(jobs, status=S.RUNNING, estimated_finish=START + 50, fence=2, lease_owner="me", lease_expires_at=START + 15.0)
    clock.now += 30.9
    after = jobs.update(job.id, fence=2, changes={"status": "failed"}, events=[note("no")])
    assert (after.finished_at, after.estimated_finish) == (START + 30, None)
    assert (after.lease_owner, after.lease_expires_at) == (None, None)


def test_given_finish_time_wins_and_none_comes_before_creation(jobs: JobStore, clock: Clock) -> None:
    given = insert(jobs, status=S.RUNNING)
    assert jobs.update(given.id, fence=0, changes={"status": S.FAILED, "finished_at": 5}, events=[note("x")]).finished_at == 5
    clock.now -= 3600
    early = insert(jobs, status=S.RUNNING)
    assert jobs.update(early.id, fence=0, changes={"status": S.FAILED}, events=[note("x")]).finished_at == early.created_at


def test_checkpoints_are_newest_first_and_one_per_step(jobs: JobStore) -> None:
    job = insert(jobs)
    first, second, third = (new_checkpoint(job.id, step, created_at=START - step) for step in (10, 20, 30))
    jobs.update(job.id, fence=0, checkpoints=[first, second])
    again = new_checkpoint(job.id, 20, metrics={"train_loss": 0.25})
    jobs.update(job.id, fence=0, checkpoints=[again, third])
    assert jobs.checkpoints(job.id).items == (third, again, first)
    page = jobs.checkpoints(job.id, limit=2)
    assert page.has_more
    assert jobs.checkpoints(job.id, limit=2, after=page.items[-1].id).items == (first,)
    assert jobs.checkpoints("ftjob-unknown").items == ()


def test_decide_sees_the_job_and_writes_its_choice(jobs: JobStore) -> None:
    job = insert(jobs)
    seen: list[Job] = []

    def choose(current: Job) -> JobWrite:
        seen.append(current)
        return JobWrite(changes={"fence": current.fence + 1}, events=[note("chosen")])

    after = jobs.decide(job.id, choose)
    assert seen == [job]
    assert after.fence == 1
    assert messages(jobs, job)[-1] == "chosen"
    with pytest.raises(StaleLease):
        jobs.decide(job.id, choose, fence=0)
    assert jobs.decide(job.id, choose, fence=1).fence == 2
