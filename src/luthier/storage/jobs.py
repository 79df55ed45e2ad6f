"""Jobs with their events and checkpoints.

What it does: inserts, finds, lists, and changes jobs; each change is one transaction that checks the lease's number and
the table of moves and writes the job together with its events, checkpoints, models and files, and a final move with the
webhooks that tell of it. What it does not: decide a change (``jobs/lifecycle.py``), hand out leases (``leases.py``). Called
by ``jobs``, ``api`` and ``worker``.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Connection, Row, Table, exists, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from luthier.core.errors import NotFound, StaleLease
from luthier.core.ids import new_event_id
from luthier.core.jobs import ALLOWED_MOVES, CheckpointRecord, FileRecord, Job, JobEvent, JobStatus, ModelRecord, NewEvent
from luthier.core.webhooks import JOB_EVENT_TYPES
from luthier.storage import schema
from luthier.storage.database import Database
from luthier.storage.files import insert_file
from luthier.storage.models import put_model
from luthier.storage.outbox import enqueue
from luthier.storage.ownership import Owned, owned_by
from luthier.storage.pages import Page, cut
from luthier.storage.retries import RetryMark, check_daily, find_twin, remember


def _columns(table: Table, record: type) -> tuple[Column[Any], ...]:
    return tuple(table.c[f.name] for f in dataclasses.fields(record))


JOB_COLUMNS = _columns(schema.jobs, Job)
_EVENT = _columns(schema.job_events, JobEvent)
_CHECKPOINT = _columns(schema.checkpoints, CheckpointRecord)
_JOB_FIELDS = frozenset(column.name for column in JOB_COLUMNS)
_LEASE_FIELDS = frozenset({"fence", "lease_owner", "lease_expires_at"})
_FIXED_FIELDS = frozenset({"id", "created_at"})

LEASE_ENDED: Mapping[str, object] = {"lease_owner": None, "lease_expires_at": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWrite:
    """Everything that one transaction changes about a job."""

    changes: Mapping[str, object] = field(default_factory=dict)
    """New values by name of a ``Job`` field."""
    events: Sequence[NewEvent] = ()
    checkpoints: Sequence[CheckpointRecord] = ()
    models: Sequence[ModelRecord] = ()
    files: Sequence[FileRecord] = ()


class JobStore(Owned):
    """The tables of jobs, events and checkpoints."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def insert(self, job: Job, events: Sequence[NewEvent], retry: RetryMark | None = None, *, daily_limit: int = 0) -> Job:
        """Store a new job with its first events, unless the request repeats an earlier one.

        Args:
            daily_limit: most jobs that the mark's key may create in 24 hours; 0: any number.

        Returns:
            The job, or the earlier one as it stands now.

        Raises:
            InvalidRequest: the idempotency key was used with another body.
            TooManyRequests: the key has created as many as it may.
        """
        with self._database.write() as connection:
            twin = find_twin(connection, retry) if retry is not None else None
            if twin is None:
                if retry is not None and daily_limit:
                    check_daily(connection, retry, daily_limit, job.model)
                connection.execute(insert(schema.jobs), {**_plain(dataclasses.asdict(job)), "project_id": self._owner})
                _append_events(connection, job.id, events)
            # A repeated key must not live longer by being repeated; a repeated attempt is what the next retry looks for.
            if retry is not None and (twin is None or retry.idempotency_key is None):
                remember(connection, retry, twin or job.id)
            return load_job(connection, twin or job.id)

    def get(self, job_id: str) -> Job | None:
        """The job, or None."""
        with self._database.read() as connection:
            return find_job(connection, job_id, self._project_id)

    def list(
        self, *, limit: int = 20, after: str | None = None, metadata: Mapping[str, str] | None = None, metadata_is_null: bool = False
    ) -> Page[Job]:
        """Jobs, newest first.

        Args:
            limit: most items on the page.
            after: id of the last job of the page before.
            metadata: only jobs whose metadata has all these values.
            metadata_is_null: only jobs without metadata.

        Raises:
            NotFound: ``after`` is not a job.
        """
        table = schema.jobs
        query = select(*JOB_COLUMNS).where(self._mine(table))
        for key, value in (metadata or {}).items():
            pairs = func.json_each(table.c.metadata).table_valued("key", "value")
            query = query.where(exists().where(pairs.c.key == key, pairs.c.value == value).correlate(table))
        if metadata_is_null:
            query = query.where(table.c.metadata.is_(None))
        with self._database.read() as connection:
            if after is not None:
                query = query.where(table.c.seq < _cursor(connection, table.c.seq, (table.c.id == after) & self._mine(table), after))
            return cut(connection.execute(query.order_by(table.c.seq.desc()).limit(limit + 1)).all(), limit, job_of_row)

    def events(self, job_id: str, *, limit: int = 20, after: str | None = None) -> Page[JobEvent]:
        """A job's events, newest first; ``after`` is the id of the last event of the page before.

        Raises:
            NotFound: ``after`` is not an event of the job.
        """
        table = schema.job_events
        mine = table.c.job_id == job_id
        query = select(*_EVENT).where(mine)
        with self._database.read() as connection:
            if after is not None:
                query = query.where(table.c.sequence < _cursor(connection, table.c.sequence, (table.c.id == after) & mine, after))
            rows = connection.execute(query.order_by(table.c.sequence.desc()).limit(limit + 1)).all()
        return cut(rows, limit, _event)

    def event_sequence(self, job_id: str, event_id: str) -> int:
        """Where an event stands among those of its job.

        Raises:
            NotFound: not an event of the job.
        """
        table = schema.job_events
        with self._database.read() as connection:
            return _cursor(connection, table.c.sequence, (table.c.id == event_id) & (table.c.job_id == job_id), event_id)

    def events_since(self, job_id: str, sequence: int, limit: int | None = None) -> tuple[JobEvent, ...]:
        """A job's events with a larger sequence than this one, oldest first, at most ``limit``; sequence 0 for all."""
        table = schema.job_events
        query = select(*_EVENT).where(table.c.job_id == job_id, table.c.sequence > sequence).order_by(table.c.sequence).limit(limit)
        with self._database.read() as connection:
            return tuple(_event(row) for row in connection.execute(query))

    def checkpoints(self, job_id: str, *, limit: int = 10, after: str | None = None) -> Page[CheckpointRecord]:
        """A job's checkpoints, newest first; ``after`` is the id of the last checkpoint of the page before.

        Raises:
            NotFound: ``after`` is not a checkpoint of the job.
        """
        table = schema.checkpoints
        mine = table.c.job_id == job_id
        query = select(*_CHECKPOINT).where(mine)
        with self._database.read() as connection:
            if after is not None:
                query = query.where(table.c.seq < _cursor(connection, table.c.seq, (table.c.id == after) & mine, after))
            rows = connection.execute(query.order_by(table.c.seq.desc()).limit(limit + 1)).all()
        return cut(rows, limit, lambda row: CheckpointRecord(**row._asdict()))

    def checkpoint(self, checkpoint_id: str) -> CheckpointRecord | None:
        """A checkpoint by its id, or None."""
        of_mine = schema.checkpoints.c.job_id.in_(select(schema.jobs.c.id).where(self._mine(schema.jobs)))
        with self._database.read() as connection:
            row = connection.execute(select(*_CHECKPOINT).where(schema.checkpoints.c.id == checkpoint_id, of_mine)).one_or_none()
        return None if row is None else CheckpointRecord(**row._asdict())

    def update(
        self,
        job_id: str,
        *,
        fence: int,
        changes: Mapping[str, object] | None = None,
        events: Sequence[NewEvent] = (),
        checkpoints: Sequence[CheckpointRecord] = (),
        models: Sequence[ModelRecord] = (),
        files: Sequence[FileRecord] = (),
    ) -> Job:
        """Write as the holder of a lease: all of it in one transaction, or nothing.

        A final status ends the lease, clears ``estimated_finish`` and sets ``finished_at`` unless given. A checkpoint of
        a step that has one replaces it; a model of a name that exists replaces it.

        Args:
            fence: number of the lease; every write of a runner quotes it.
            changes: new values by name of a ``Job`` field; not of the lease's own fields.

        Returns:
            The job after the change.

        Raises:
            NotFound: no such job.
            StaleLease: the number is no longer the job's, or the job is finished.
            ValueError: a field that may not be set so, a status that may not follow, or a new status without an event.
        """
        own = dict(changes or {})
        if taken := _LEASE_FIELDS & own.keys():
            raise ValueError(f"Only the queue changes {sorted(taken)}.")
        write = JobWrite(changes=own, events=events, checkpoints=checkpoints, models=models, files=files)
        with self._database.write() as connection:
            return apply_write(connection, load_leased(connection, job_id, fence), write, self._clock())

    def decide(self, job_id: str, choose: Callable[[Job], JobWrite], *, fence: int | None = None) -> Job:
        """Load a job, let ``choose`` say what changes, and write that, in one transaction.

        Args:
            choose: pure; what it raises ends the transaction without a trace.
            fence: number of the lease when a runner's news are written; None for the office's own decisions.

        Raises:
            NotFound: no such job.
            StaleLease: ``fence`` is given and no longer the job's, or the job is finished.
        """
        with self._database.write() as connection:
            job = load_job(connection, job_id, self._project_id) if fence is None else load_leased(connection, job_id, fence)
            return apply_write(connection, job, choose(job), self._clock())


def find_job(connection: Connection, job_id: str, project_id: str | None = None) -> Job | None:
    """The job, or None; with a project, only one of its own."""
    row = connection.execute(select(*JOB_COLUMNS).where(schema.jobs.c.id == job_id, owned_by(schema.jobs, project_id))).one_or_none()
    return None if row is None else job_of_row(row)


def load_job(connection: Connection, job_id: str, project_id: str | None = None) -> Job:
    """The job; with a project, only one of its own.

    Raises:
        NotFound: no such job, in OpenAI's words.
    """
    job = find_job(connection, job_id, project_id)
    if job is None:
        raise NotFound(f"Could not find fine tune: {job_id}", code="fine_tune_not_found", param="fine_tune_id")
    return job


def load_leased(connection: Connection, job_id: str, fence: int) -> Job:
    """The job, if ``fence`` is its number and it is not finished; else StaleLease."""
    job = load_job(connection, job_id)
    if job.fence != fence:
        raise StaleLease(f"Lease {fence} of {job_id} is over; the job is at {job.fence}.")
    if job.status.is_final:
        raise StaleLease(f"Lease {fence} of {job_id} is over; the job is {job.status}.")
    return job


def apply_write(connection: Connection, job: Job, write: JobWrite, now: float) -> Job:
    """Check a change against the table of moves and write it; returns the job after it.

    Raises:
        ValueError: see ``JobStore.update``.
    """
    changes = _completed(job, write, now)
    if changes:
        connection.execute(update(schema.jobs).where(schema.jobs.c.id == job.id).values(_plain(changes)))
    _append_events(connection, job.id, write.events)
    for checkpoint in write.checkpoints:
        _put_checkpoint(connection, checkpoint)
    # What a job makes belongs to whoever the job belongs to.
    owner = connection.execute(select(schema.jobs.c.project_id).where(schema.jobs.c.id == job.id)).scalar_one()
    for model in write.models:
        put_model(connection, model, owner)
    for file in write.files:
        insert_file(connection, file, owner)
    after = load_job(connection, job.id)
    if after.status.is_final and not job.status.is_final:
        # In this transaction: an event is owed exactly when the move is durable.
        ended = int(now) if after.finished_at is None else after.finished_at
        enqueue(connection, event_type=JOB_EVENT_TYPES[after.status], object_id=job.id, created_at=ended, now=now)
    return after


def _completed(job: Job, write: JobWrite, now: float) -> dict[str, object]:
    changes = dict(write.changes)
    if wrong := (changes.keys() - _JOB_FIELDS) | (changes.keys() & _FIXED_FIELDS):
        raise ValueError(f"Not fields of a job that can change: {sorted(wrong)}.")
    status = JobStatus(str(changes.get("status", job.status)))
    if status is job.status:
        return changes
    if status not in ALLOWED_MOVES[job.status]:
        raise ValueError(f"A job that is {job.status} cannot become {status}.")
    if not write.events:
        raise ValueError(f"A job becomes {status} only together with an event.")
    changes["status"] = status
    if status.is_final:
        changes.setdefault("finished_at", max(int(now), job.created_at))
        changes.setdefault("estimated_finish", None)
        changes.setdefault("paused_from", None)
        changes.update(LEASE_ENDED)
    return changes


def _append_events(connection: Connection, job_id: str, events: Sequence[NewEvent]) -> None:
    if not events:
        return
    table = schema.job_events
    last = connection.execute(select(func.max(table.c.sequence)).where(table.c.job_id == job_id)).scalar_one() or 0
    rows = [
        {**dataclasses.asdict(event), "id": new_event_id(), "job_id": job_id, "sequence": sequence}
        for sequence, event in enumerate(events, start=last + 1)
    ]
    connection.execute(insert(table), rows)


def _put_checkpoint(connection: Connection, checkpoint: CheckpointRecord) -> None:
    values = dataclasses.asdict(checkpoint)
    changed = {name: value for name, value in values.items() if name not in ("job_id", "step_number")}
    statement = upsert(schema.checkpoints).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=["job_id", "step_number"], set_=changed))


def _cursor(connection: Connection, order: Column[int], condition: Any, after: str) -> int:
    found = connection.execute(select(order).where(condition)).scalar_one_or_none()
    if found is None:
        raise NotFound(f"No such object: {after}", param="after")
    return found


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value.value if isinstance(value, JobStatus) else value for name, value in values.items()}


def job_of_row(row: Row[Any]) -> Job:
    """The job of a row that has ``JOB_COLUMNS``; further ones are passed over."""
    values = {name: value for name, value in row._asdict().items() if name in _JOB_FIELDS}
    paused_from = values["paused_from"]
    statuses = {"status": JobStatus(values["status"]), "paused_from": None if paused_from is None else JobStatus(paused_from)}
    return Job(**{**values, **statuses, "result_files": tuple(values["result_files"])})


def _event(row: Row[Any]) -> JobEvent:
    return JobEvent(**row._asdict())
