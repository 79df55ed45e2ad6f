"""Rows of dataset tasks, and who may work on one.

What it does: adds, finds, lists, cancels; hands out leases with a number that every write of a runner quotes; ends a task
together with the files it made, in one transaction. What it does not: the work (``worker/dataset_kinds.py``), or touch the
tasks' folders (``collection.py`` removes them). Called by ``api`` and ``worker``.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from luthier.core.dataset_tasks import MAX_ATTEMPTS, DatasetKind, DatasetTask, DatasetTaskStatus, TaskEnd, TaskInput
from luthier.core.errors import InvalidRequest, NotFound, StaleLease, TooManyRequests
from luthier.core.jobs import FileRecord
from luthier.storage import schema
from luthier.storage.database import Database
from luthier.storage.files import insert_file
from luthier.storage.ownership import Owned
from luthier.storage.pages import Page, cut
from luthier.storage.retries import RetryMark, find_twin, remember

LEASE_SECONDS = 15.0
"""How long a lease lives without renewal."""
QUEUE_RETRY_SECONDS = 2.0
"""When a client that found the queue full may come again: small tasks take less."""
_TABLE = schema.dataset_tasks
_FIELDS = tuple(f.name for f in dataclasses.fields(DatasetTask))
_COLUMNS = tuple(_TABLE.c[name] for name in _FIELDS)
_OPEN = tuple(status.value for status in DatasetTaskStatus if not status.is_final)
_NO_LEASE: Mapping[str, Any] = {"lease_owner": None, "lease_expires_at": None}
_DIED = "The process that worked on this ended unexpectedly, {} times. Its log is in the server's data directory: datasets/{}/child.log."


def unknown_task(task_id: str, param: str = "id") -> NotFound:
    """What is said of a task that is not there."""
    return NotFound(f"No such dataset task: {task_id}", param=param)


class DatasetTaskStore(Owned):
    """The table of dataset tasks."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def add(self, task: DatasetTask, retry: RetryMark | None = None, *, queue_limit: int = 0) -> DatasetTask:
        """Store a new task, unless the request repeats an earlier one.

        Args:
            queue_limit: most tasks of the project that may wait at once; 0: any number.

        Returns:
            The task, or the earlier one as it stands now.

        Raises:
            InvalidRequest: the idempotency key was used with another body.
            TooManyRequests: as many of the project wait as may.
        """
        values = {name: getattr(task, name) for name in _FIELDS}
        values |= {"kind": task.kind.value, "status": task.status.value, "inputs": [dataclasses.asdict(i) for i in task.inputs]}
        with self._database.write() as connection:
            twin = None if retry is None else find_twin(connection, retry, schema.task_creations)
            if twin is None:
                if queue_limit:
                    _check_queue(connection, task.project_id, queue_limit)
                connection.execute(insert(_TABLE), {**values, "project_id": task.project_id})
            # As with jobs: a repeated key must not live longer by being repeated; a repeated attempt is what the next retry looks for.
            if retry is not None and (twin is None or retry.idempotency_key is None):
                remember(connection, retry, twin or task.id, schema.task_creations)
            stored = self._find(connection, twin or task.id)
        assert stored is not None, "a key has one project, and creations go with their tasks"
        return stored

    def get(self, task_id: str) -> DatasetTask | None:
        """The task, or None."""
        with self._database.read() as connection:
            return self._find(connection, task_id)

    def list(self, *, kind: DatasetKind | None = None, limit: int = 20, after: str | None = None) -> Page[DatasetTask]:
        """Tasks, newest first.

        Args:
            kind: only tasks of this kind.
            limit: most items on the page.
            after: id of the last task of the page before.

        Raises:
            NotFound: ``after`` is no task.
        """
        query = select(*_COLUMNS).where(self._mine(_TABLE)).order_by(_TABLE.c.seq.desc()).limit(limit + 1)
        if kind is not None:
            query = query.where(_TABLE.c.kind == kind.value)
        with self._database.read() as connection:
            if after is not None:
                cursor = connection.execute(select(_TABLE.c.seq).where(_TABLE.c.id == after, self._mine(_TABLE))).scalar_one_or_none()
                if cursor is None:
                    raise unknown_task(after, "after")
                query = query.where(_TABLE.c.seq < cursor)
            return cut(connection.execute(query).all(), limit, _task)

    def cancel(self, task_id: str) -> DatasetTask:
        """End a task at once; whoever works on it learns it at its next write, and nothing of it is kept.

        Raises:
            NotFound: no such task.
            InvalidRequest: it is over.
        """
        with self._database.write() as connection:
            task = self._find(connection, task_id)
            if task is None:
                raise unknown_task(task_id)
            if task.status.is_final:
                raise InvalidRequest(f"Cannot cancel a dataset task with status '{task.status}'.")
            changes = {"status": DatasetTaskStatus.CANCELLED.value, "finished_at": int(self._clock()), "progress": None}
            return self._change(connection, task, {**changes, "fence": task.fence + 1, **_NO_LEASE})

    def lease(self, owner: str, *, quick: bool) -> DatasetTask | None:
        """The oldest waiting task of a lane for ``owner``, or one whose runner is gone; None when there is none."""
        now = self._clock()
        dead = (_TABLE.c.status == DatasetTaskStatus.RUNNING.value) & (_TABLE.c.lease_expires_at <= now)
        free = (_TABLE.c.status == DatasetTaskStatus.QUEUED.value) | dead
        query = select(*_COLUMNS).where(_TABLE.c.status.in_(_OPEN), free, _TABLE.c.quick.is_(quick)).order_by(_TABLE.c.seq).limit(1)
        with self._database.read() as connection:
            # An idle worker asks many times a second; only one that has seen a task takes the write lock, and looks again.
            if connection.execute(query).first() is None:
                return None
        with self._database.write() as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                return None
            task = _task(row)
            changes = {"status": DatasetTaskStatus.RUNNING.value, "fence": task.fence + 1, "lease_owner": owner}
            return self._change(connection, task, {**changes, "lease_expires_at": now + LEASE_SECONDS})

    def renew(self, task_id: str, fence: int, progress: Mapping[str, Any] | None) -> None:
        """The lease lives on from now, and this is how far the work is.

        Raises:
            StaleLease: the number is no longer the task's.
        """
        changes = {"lease_expires_at": self._clock() + LEASE_SECONDS, "progress": None if progress is None else dict(progress)}
        with self._database.write() as connection:
            self._change(connection, self._leased(connection, task_id, fence), changes)

    def finish(self, task_id: str, fence: int, end: TaskEnd, files: Sequence[FileRecord] = ()) -> DatasetTask:
        """End a task as the holder of its lease, with the files that it made; one transaction.

        Raises:
            StaleLease: the number is no longer the task's; nothing is written.
        """
        with self._database.write() as connection:
            task = self._leased(connection, task_id, fence)
            for file in files:
                insert_file(connection, file, task.project_id)
            changes = {"status": end.status.value, "result": end.result, "error": end.error, "num_findings": end.num_findings}
            return self._change(connection, task, {**changes, "finished_at": int(self._clock()), "progress": None, **_NO_LEASE})

    def record_death(self, task_id: str, fence: int) -> DatasetTask:
        """The runner died under this lease: the task waits again, or fails when that happened before.

        Raises:
            StaleLease: the number is no longer the task's: there is nothing to record.
        """
        with self._database.write() as connection:
            task = self._leased(connection, task_id, fence)
            changes: dict[str, Any] = {"attempts": task.attempts + 1, "progress": None, **_NO_LEASE}
            if task.attempts + 1 < MAX_ATTEMPTS:
                return self._change(connection, task, {**changes, "status": DatasetTaskStatus.QUEUED.value})
            error = {"code": "server_error", "message": _DIED.format(MAX_ATTEMPTS, task.id), "param": None}
            end = {"status": DatasetTaskStatus.FAILED.value, "finished_at": int(self._clock()), "error": error}
            return self._change(connection, task, {**changes, **end})

    def requeue_all(self) -> int:
        """Every task in work waits again, as a worker has it at its start; returns how many there were."""
        running = update(_TABLE).where(_TABLE.c.status == DatasetTaskStatus.RUNNING.value)
        values = {"status": DatasetTaskStatus.QUEUED.value, "fence": _TABLE.c.fence + 1, "progress": None, **_NO_LEASE}
        with self._database.write() as connection:
            return connection.execute(running.values(values)).rowcount

    def forget(self, finished_before: float) -> int:
        """Delete the rows of tasks that ended before a time; returns how many there were."""
        old = _TABLE.c.status.not_in(_OPEN) & (_TABLE.c.finished_at < finished_before)
        with self._database.write() as connection:
            made = schema.task_creations
            connection.execute(delete(made).where(made.c.made_id.in_(select(_TABLE.c.id).where(old))))
            return connection.execute(delete(_TABLE).where(old)).rowcount

    def all_ids(self) -> frozenset[str]:
        """The ids of all tasks."""
        with self._database.read() as connection:
            return frozenset(connection.execute(select(_TABLE.c.id)).scalars())

    def _find(self, connection: Connection, task_id: str) -> DatasetTask | None:
        row = connection.execute(select(*_COLUMNS).where(_TABLE.c.id == task_id, self._mine(_TABLE))).one_or_none()
        return None if row is None else _task(row)

    def _leased(self, connection: Connection, task_id: str, fence: int) -> DatasetTask:
        task = self._find(connection, task_id)
        if task is None or task.fence != fence or task.status is not DatasetTaskStatus.RUNNING:
            raise StaleLease(f"The lease of {task_id} has passed on.")
        return task

    def _change(self, connection: Connection, task: DatasetTask, values: Mapping[str, Any]) -> DatasetTask:
        connection.execute(update(_TABLE).where(_TABLE.c.id == task.id).values(dict(values)))
        changed = self._find(connection, task.id)
        assert changed is not None
        return changed


def _check_queue(connection: Connection, project_id: str, limit: int) -> None:
    counted = select(_TABLE.c.status, func.count()).where(_TABLE.c.project_id == project_id, _TABLE.c.status.in_(_OPEN))
    numbers: dict[str, int] = {row[0]: row[1] for row in connection.execute(counted.group_by(_TABLE.c.status))}
    waiting, running = (numbers.get(status.value, 0) for status in (DatasetTaskStatus.QUEUED, DatasetTaskStatus.RUNNING))
    if waiting < limit:
        return
    raise TooManyRequests(
        f"This dataset task has been rate-limited. Your project has reached the maximum of {limit} waiting dataset tasks "
        f"({running} running, {waiting} pending). Send it again when one of them is done, or cancel one.",
        code="rate_limit_exceeded",
        retry_after=QUEUE_RETRY_SECONDS,
    )


def _task(row: Row[Any]) -> DatasetTask:
    plain = row._asdict()
    plain |= {"kind": DatasetKind(plain["kind"]), "status": DatasetTaskStatus(plain["status"])}
    return DatasetTask(**{**plain, "inputs": tuple(TaskInput(**one) for one in plain["inputs"])})
