"""Rows of dataset tasks: leases that guard every write, ends with their files, one retry, and what is kept how long."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from luthier.core.dataset_tasks import DatasetKind, DatasetTask, DatasetTaskStatus, TaskEnd, TaskInput
from luthier.core.errors import InvalidRequest, NotFound, StaleLease, TooManyRequests
from luthier.core.ids import new_dataset_task_id
from luthier.core.keys import DEFAULT_PROJECT
from luthier.storage.collection import collect_dataset_tasks
from luthier.storage.database import Database
from luthier.storage.dataset_tasks import LEASE_SECONDS, DatasetTaskStore
from luthier.storage.files import FileStore, referenced_blobs
from luthier.storage.jobs import JobStore
from luthier.storage.retries import RetryMark
from tests.support.office import START, Clock, new_file, new_job

DAY = 24 * 3600
DONE = TaskEnd(status=DatasetTaskStatus.COMPLETED, result={"ok": True}, num_findings=3)
INPUT = TaskInput(role="file_id", file_id="file-1", filename="a.jsonl", sha256="c" * 64, bytes=10)


@pytest.fixture
def tasks(database: Database, clock: Clock) -> DatasetTaskStore:
    return DatasetTaskStore(database, clock)


def fresh(**changes: Any) -> DatasetTask:
    values: dict[str, Any] = {
        "id": new_dataset_task_id(),
        "project_id": DEFAULT_PROJECT,
        "kind": DatasetKind.CHECK,
        "options": {"file_id": "file-1"},
        "inputs": (INPUT,),
        "created_at": START,
    }
    return DatasetTask(**{**values, **changes})


def added(tasks: DatasetTaskStore, **changes: Any) -> DatasetTask:
    return tasks.add(fresh(**changes))


def mark(**changes: Any) -> RetryMark:
    return RetryMark(**{"api_key_id": "key", "body_sha256": "body", "retry_count": 0, "received_at": START, **changes})


def leased(tasks: DatasetTaskStore, *, quick: bool = False) -> DatasetTask:
    task = tasks.lease("owner-1", quick=quick)
    assert task is not None
    return task


def test_a_task_is_read_as_it_was_written(tasks: DatasetTaskStore) -> None:
    task = added(tasks, kind=DatasetKind.IMPORT)
    assert tasks.get(task.id) == task
    assert tasks.get("dstask-none") is None


def test_each_lane_takes_its_own_the_oldest_first_and_each_once(tasks: DatasetTaskStore) -> None:
    large, small, second = added(tasks), added(tasks, quick=True), added(tasks)
    assert leased(tasks, quick=True).id == small.id
    first = leased(tasks)
    assert (first.id, first.status, first.fence, first.lease_owner) == (large.id, DatasetTaskStatus.RUNNING, 1, "owner-1")
    assert leased(tasks).id == second.id
    assert tasks.lease("owner-1", quick=False) is None


def test_an_end_comes_with_its_files_or_not_at_all(tasks: DatasetTaskStore, database: Database, clock: Clock) -> None:
    added(tasks, project_id="proj_mine")
    task = leased(tasks)
    made = new_file()
    done = tasks.finish(task.id, task.fence, DONE, [made])
    assert (done.status, done.result, done.num_findings, done.finished_at) == (DatasetTaskStatus.COMPLETED, {"ok": True}, 3, START)
    assert (done.lease_owner, done.lease_expires_at, done.progress) == (None, None, None)
    assert FileStore(database, clock).in_project("proj_mine").get(made.id) == made
    assert FileStore(database, clock).in_project("proj_other").get(made.id) is None
    late = new_file()
    with pytest.raises(StaleLease):
        tasks.finish(task.id, task.fence, DONE, [late])
    assert FileStore(database, clock).get(late.id) is None


def test_a_cancelled_task_takes_no_more_writes(tasks: DatasetTaskStore, database: Database) -> None:
    added(tasks)
    task = leased(tasks)
    assert tasks.cancel(task.id).status is DatasetTaskStatus.CANCELLED
    made = new_file()
    for write in (
        lambda: tasks.finish(task.id, task.fence, DONE, [made]),
        lambda: tasks.renew(task.id, task.fence, None),
        lambda: tasks.record_death(task.id, task.fence),
    ):
        with pytest.raises(StaleLease):
            write()
    assert FileStore(database).get(made.id) is None
    with pytest.raises(InvalidRequest, match="status 'cancelled'"):
        tasks.cancel(task.id)
    with pytest.raises(NotFound):
        tasks.cancel("dstask-none")


def test_progress_is_told_and_a_lease_that_is_not_renewed_is_anothers(tasks: DatasetTaskStore, clock: Clock) -> None:
    added(tasks)
    task = leased(tasks)
    clock.now += LEASE_SECONDS - 1
    tasks.renew(task.id, task.fence, {"done": 1, "total": 2, "unit": "rows"})
    renewed = tasks.get(task.id)
    assert renewed is not None
    assert renewed.progress == {"done": 1, "total": 2, "unit": "rows"}
    clock.now += LEASE_SECONDS - 1
    assert tasks.lease("owner-2", quick=False) is None
    clock.now += 1
    again = leased(tasks)
    assert (again.id, again.fence) == (task.id, 2)
    with pytest.raises(StaleLease):
        tasks.renew(task.id, task.fence, None)


def test_a_death_is_followed_by_one_more_try(tasks: DatasetTaskStore) -> None:
    added(tasks)
    first = leased(tasks)
    assert tasks.record_death(first.id, first.fence).status is DatasetTaskStatus.QUEUED
    second = leased(tasks)
    assert second.attempts == 1
    failed = tasks.record_death(second.id, second.fence)
    assert (failed.status, failed.finished_at) == (DatasetTaskStatus.FAILED, START)
    assert failed.error is not None
    assert failed.error["code"] == "server_error"
    assert failed.id in failed.error["message"]


def test_a_new_worker_begins_again_what_was_in_work(tasks: DatasetTaskStore) -> None:
    added(tasks)
    task, waiting = leased(tasks), added(tasks)
    assert tasks.requeue_all() == 1
    with pytest.raises(StaleLease):
        tasks.renew(task.id, task.fence, None)
    again = leased(tasks)
    assert (again.id, again.attempts) == (task.id, 0)
    assert leased(tasks).id == waiting.id


def test_lists_are_newest_first_and_one_projects(tasks: DatasetTaskStore) -> None:
    mine = [added(tasks, project_id="proj_mine", kind=kind) for kind in (DatasetKind.CHECK, DatasetKind.FIX, DatasetKind.CHECK)]
    other = added(tasks, project_id="proj_other")
    view = tasks.in_project("proj_mine")
    assert [task.id for task in view.list().items] == [task.id for task in reversed(mine)]
    assert [task.id for task in view.list(kind=DatasetKind.FIX).items] == [mine[1].id]
    page = view.list(limit=1, after=mine[2].id)
    assert ([task.id for task in page.items], page.has_more) == ([mine[1].id], True)
    assert view.get(other.id) is None
    for call in (lambda: view.cancel(other.id), lambda: view.list(after=other.id)):
        with pytest.raises(NotFound, match=other.id):
            call()


def test_the_bytes_of_a_tasks_files_are_kept_until_it_is_over(tasks: DatasetTaskStore, database: Database) -> None:
    added(tasks)
    assert INPUT.sha256 in referenced_blobs(database, START)
    task = leased(tasks)
    assert INPUT.sha256 in referenced_blobs(database, START)
    tasks.finish(task.id, task.fence, DONE)
    assert INPUT.sha256 not in referenced_blobs(database, START)


def test_old_tasks_and_folders_without_a_task_go(tasks: DatasetTaskStore, database: Database, clock: Clock, tmp_path: Path) -> None:
    folder = tmp_path / "datasets"
    assert collect_dataset_tasks(database, folder, 7, clock) == 0
    ids = []
    for _ in range(2):
        added(tasks)
        task = leased(tasks)
        tasks.finish(task.id, task.fence, DONE)
        ids.append(task.id)
        clock.now += 3 * DAY
    waiting = added(tasks).id
    for name in (*ids, waiting, "dstask-of-nobody"):
        (folder / name).mkdir(parents=True)
        (folder / name / "findings.jsonl").touch()
    clock.now = START + 7 * DAY + 1
    assert collect_dataset_tasks(database, folder, 0, clock) == 1
    assert collect_dataset_tasks(database, folder, 7, clock) == 1
    assert sorted(path.name for path in folder.iterdir()) == sorted([ids[1], waiting])
    clock.now += 365 * DAY
    assert collect_dataset_tasks(database, folder, 7, clock) == 1
    assert dataclasses.astuple(tasks.list().items[0])[0] == waiting


def test_a_chain_of_retries_is_one_task_and_shows_it_as_it_stands(tasks: DatasetTaskStore) -> None:
    first = tasks.add(fresh(), mark())
    assert tasks.add(fresh(), mark(retry_count=1)) == first
    running = leased(tasks)
    assert tasks.add(fresh(), mark(retry_count=2)) == running
    assert tasks.add(fresh(), mark(retry_count=3, api_key_id="other")).id != first.id
    assert tasks.add(fresh(), mark()).id != first.id
    assert len(tasks.list().items) == 3


def test_a_task_and_a_job_of_one_idempotency_key_are_two_things(tasks: DatasetTaskStore, database: Database) -> None:
    job = JobStore(database).insert(new_job(), [], mark(idempotency_key="k"))
    task = tasks.add(fresh(), mark(idempotency_key="k"))
    assert tasks.add(fresh(), mark(idempotency_key="k")) == task
    assert task.id != job.id
    with pytest.raises(InvalidRequest) as caught:
        tasks.add(fresh(), mark(idempotency_key="k", body_sha256="other"))
    assert caught.value.code == "idempotency_key_reused"


def test_as_many_wait_as_may_those_in_work_not_counted(tasks: DatasetTaskStore) -> None:
    for _ in range(2):
        tasks.add(fresh(), queue_limit=2)
    leased(tasks)
    tasks.add(fresh(), mark(), queue_limit=2)
    with pytest.raises(TooManyRequests) as caught:
        tasks.add(fresh(), queue_limit=2)
    assert "(1 running, 2 pending)" in caught.value.message
    assert tasks.add(fresh(), mark(retry_count=1), queue_limit=2).id in {task.id for task in tasks.list().items}
    assert tasks.in_project("proj_other").add(fresh(project_id="proj_other"), queue_limit=2).project_id == "proj_other"
    assert len(tasks.list().items) == 4, "what is refused is not there"
    tasks.add(fresh(), queue_limit=0)


def test_a_task_that_is_forgotten_takes_the_requests_for_it_along(tasks: DatasetTaskStore, clock: Clock) -> None:
    first = tasks.add(fresh(), mark(idempotency_key="k"))
    task = leased(tasks)
    tasks.finish(task.id, task.fence, DONE)
    clock.now += 10
    assert tasks.forget(clock.now - 5) == 1
    assert tasks.add(fresh(), mark(idempotency_key="k")).id != first.id
