"""Rows of stored files.

What it does: adds, finds, lists and deletes file records. What it does not: touch the bytes (``blobs.py``). Called by
``api`` and ``worker``. A deleted row stays as a tombstone: paging goes on from it, and its blob is kept for a day. An
expired file is deleted for every caller, from its second of expiry on.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, or_, select, union, update

from luthier.core.batches import ACTIVE
from luthier.core.dataset_tasks import DatasetTaskStatus
from luthier.core.errors import NotFound
from luthier.core.jobs import FileRecord, JobStatus
from luthier.storage import schema
from luthier.storage.database import Database
from luthier.storage.ownership import Owned
from luthier.storage.pages import Page, cut

_FIELDS = tuple(f.name for f in dataclasses.fields(FileRecord))
_COLUMNS = tuple(schema.files.c[name] for name in _FIELDS)


def _live(now: float) -> ColumnElement[bool]:
    """Neither deleted nor expired at ``now``."""
    table = schema.files
    return and_(table.c.deleted_at.is_(None), or_(table.c.expires_at.is_(None), table.c.expires_at > now))


ORPHAN_SECONDS = 24 * 3600.0
"""A blob outlives its last row by this time, seconds."""


class FileStore(Owned):
    """The table of files."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def add(self, record: FileRecord) -> None:
        """Store a new file's row; its blob is already durable."""
        with self._database.write() as connection:
            insert_file(connection, record, self._owner)

    def get(self, file_id: str) -> FileRecord | None:
        """The record, or None when there is none, or it was deleted or has expired."""
        query = select(*_COLUMNS).where(schema.files.c.id == file_id, self._mine(schema.files), _live(self._clock()))
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _record(row)

    def list(self, *, purpose: str | None = None, limit: int = 10000, order: str = "desc", after: str | None = None) -> Page[FileRecord]:
        """Files in the order they came.

        Args:
            purpose: only files with this purpose.
            limit: most items on the page.
            order: ``desc`` for newest first, ``asc`` for oldest first.
            after: id of the last file of the page before, which may have been deleted or expired since.

        Raises:
            NotFound: ``after`` never was a file.
        """
        seq = schema.files.c.seq
        mine = self._mine(schema.files)
        query = select(*_COLUMNS).where(mine, _live(self._clock()))
        if purpose is not None:
            query = query.where(schema.files.c.purpose == purpose)
        with self._database.read() as connection:
            if after is not None:
                cursor = connection.execute(select(seq).where(schema.files.c.id == after, mine)).scalar_one_or_none()
                if cursor is None:
                    raise NotFound(f"No such File object: {after}", param="after")
                query = query.where(seq > cursor if order == "asc" else seq < cursor)
            query = query.order_by(seq.asc() if order == "asc" else seq.desc())
            return cut(connection.execute(query.limit(limit + 1)).all(), limit, _record)

    def delete(self, file_id: str) -> bool:
        """Delete a file's row; False when there was none. Jobs that use its bytes keep them."""
        now = self._clock()
        with self._database.write() as connection:
            found = (schema.files.c.id == file_id, self._mine(schema.files), _live(now))
            return connection.execute(update(schema.files).where(*found).values(deleted_at=now)).rowcount == 1


def insert_file(connection: Connection, record: FileRecord, project_id: str) -> None:
    """Insert one row inside the caller's transaction; it belongs to this project."""
    connection.execute(insert(schema.files), {**{name: getattr(record, name) for name in _FIELDS}, "project_id": project_id})


def referenced_blobs(database: Database, now: float) -> frozenset[str]:
    """Hashes that ``BlobStore.collect`` must keep at ``now`` (Unix seconds).

    Those of files, of files deleted or expired less than a day ago, and of the snapshots of jobs, batches and dataset tasks that are
    not finished.
    """
    files, jobs, batches, tasks = schema.files, schema.jobs, schema.batches, schema.dataset_tasks
    active = jobs.c.status.in_([status.value for status in JobStatus if not status.is_final])
    query = union(
        select(files.c.sha256).where(_live(now - ORPHAN_SECONDS) | (files.c.deleted_at > now - ORPHAN_SECONDS)),
        select(jobs.c.training_sha256).where(active),
        select(jobs.c.validation_sha256).where(active, jobs.c.validation_sha256.is_not(None)),
        select(batches.c.input_sha256).where(batches.c.status.in_([status.value for status in ACTIVE])),
    )
    unfinished = select(tasks.c.inputs).where(tasks.c.status.in_([status.value for status in DatasetTaskStatus if not status.is_final]))
    with database.read() as connection:
        inputs = [one["sha256"] for some in connection.execute(unfinished).scalars() for one in some]
        return frozenset(connection.execute(query).scalars()) | frozenset(inputs)


def _record(row: Row[Any]) -> FileRecord:
    # A page may have ten thousand rows: half the time of ``row._asdict()``.
    return FileRecord(**dict(zip(_FIELDS, row, strict=True)))
