"""Rows of batches.

What it does: adds, finds, lists and changes them; ends one together with its files and the events about it. What it does not:
read a batch's file or answer its requests (``api/batches``). Called by ``api``.
"""

import builtins
import dataclasses
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from luthier.core.batches import ACTIVE, MOVES, BatchRecord, BatchStatus
from luthier.core.errors import NotFound
from luthier.core.jobs import FileRecord
from luthier.core.webhooks import BATCH_EVENT_TYPES
from luthier.storage import schema
from luthier.storage.database import Database
from luthier.storage.files import insert_file
from luthier.storage.outbox import enqueue
from luthier.storage.ownership import Owned
from luthier.storage.pages import Page, cut

_TABLE = schema.batches
_FIELDS = tuple(f.name for f in dataclasses.fields(BatchRecord))
_COLUMNS = tuple(_TABLE.c[name] for name in _FIELDS)


class BatchStore(Owned):
    """The table of batches."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, record: BatchRecord) -> None:
        """Store a new batch."""
        values = {name: getattr(record, name) for name in _FIELDS}
        with self._database.write() as connection:
            connection.execute(insert(_TABLE), {**values, "status": record.status.value, "errors": list(record.errors)})

    def get(self, batch_id: str) -> BatchRecord | None:
        """The record, or None."""
        with self._database.read() as connection:
            row = connection.execute(self._one(batch_id)).one_or_none()
        return None if row is None else _record(row)

    def list(self, *, limit: int = 20, after: str | None = None) -> Page[BatchRecord]:
        """Batches, newest first.

        Args:
            limit: most items on the page.
            after: id of the last batch of the page before.

        Raises:
            NotFound: ``after`` is no batch.
        """
        query = select(*_COLUMNS).where(self._mine(_TABLE)).order_by(_TABLE.c.seq.desc()).limit(limit + 1)
        with self._database.read() as connection:
            if after is not None:
                cursor = connection.execute(select(_TABLE.c.seq).where(_TABLE.c.id == after, self._mine(_TABLE))).scalar_one_or_none()
                if cursor is None:
                    raise NotFound(f"No such batch: {after}", param="after")
                query = query.where(_TABLE.c.seq < cursor)
            return cut(connection.execute(query).all(), limit, _record)

    def active(self) -> builtins.list[BatchRecord]:
        """Every batch that is not final, oldest first."""
        query = select(*_COLUMNS).where(self._mine(_TABLE), _TABLE.c.status.in_([s.value for s in ACTIVE])).order_by(_TABLE.c.seq)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def note(self, batch_id: str, **values: int) -> None:
        """Change counts: ``num_completed``, ``num_failed``, ``input_tokens``, ``output_tokens``."""
        with self._database.write() as connection:
            connection.execute(update(_TABLE).where(_TABLE.c.id == batch_id).values(values))

    def move(self, batch_id: str, status: BatchStatus, now: int, files: Sequence[FileRecord] = (), **values: Any) -> BatchRecord | None:
        """Change a batch's status if it may go there, with its files and the event about it; one transaction.

        Args:
            status: the new one; its time (``completed_at`` and so on) becomes ``now``.
            files: rows of output and error files, whose blobs are durable.
            values: other columns to set.

        Returns:
            The batch as it is afterwards, moved or not; None when there is none.
        """
        with self._database.write() as connection:
            row = connection.execute(self._one(batch_id)).one_or_none()
            if row is None:
                return None
            record = _record(row)
            if status not in MOVES[record.status]:
                return record
            for file in files:
                insert_file(connection, file, record.project_id)
            changes = {**values, "status": status.value, f"{status.value}_at": now}
            connection.execute(update(_TABLE).where(_TABLE.c.id == batch_id).values(changes))
            _tell(connection, record.id, status, now)
            return _record(connection.execute(self._one(batch_id)).one())

    def _one(self, batch_id: str) -> Any:
        return select(*_COLUMNS).where(_TABLE.c.id == batch_id, self._mine(_TABLE))


def _tell(connection: Connection, batch_id: str, status: BatchStatus, now: int) -> None:
    event_type = BATCH_EVENT_TYPES.get(status)
    if event_type is not None:
        enqueue(connection, event_type=event_type, object_id=batch_id, created_at=now, now=float(now))


def _record(row: Row[Any]) -> BatchRecord:
    plain = row._asdict()
    return BatchRecord(**{**plain, "status": BatchStatus(plain["status"]), "errors": tuple(plain["errors"])})
