"""Rows of uploads and of their parts.

What it does: adds uploads and parts, completes, cancels and expires uploads; every change checks the upload's status in
its own transaction. What it does not: touch bytes (``parts.py``, ``blobs.py``). Called by ``api`` and ``worker``.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.jobs import FileRecord
from luthier.core.uploads import LIFETIME_SECONDS, MAX_PARTS, PartRecord, UploadRecord, UploadStatus
from luthier.storage import schema
from luthier.storage.database import Database
from luthier.storage.files import insert_file
from luthier.storage.ownership import Owned

_FIELDS = tuple(f.name for f in dataclasses.fields(UploadRecord))
_COLUMNS = tuple(schema.uploads.c[name] for name in _FIELDS)
_PARTS = schema.upload_parts

Settled = tuple[UploadRecord, tuple[str, ...]]
"""An upload that takes no more parts, and the ids of the parts whose bytes nobody needs any longer."""


class UploadStore(Owned):
    """The tables of uploads and their parts."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def add(self, record: UploadRecord) -> None:
        """Store a new upload."""
        with self._database.write() as connection:
            connection.execute(insert(schema.uploads), {**_row(record), "project_id": self._owner})

    def load(self, upload_id: str) -> UploadRecord:
        """The upload as it stands now.

        Raises:
            NotFound: no such upload.
        """
        with self._database.read() as connection:
            return self._load(connection, upload_id)

    def check_open(self, upload_id: str) -> None:
        """Raises what ``add_part`` would: an answer before a whole part is read.

        Raises:
            NotFound: no such upload.
            InvalidRequest: it is completed, cancelled or expired.
        """
        require_pending(self.load(upload_id))

    def add_part(self, part: PartRecord, *, max_bytes: int) -> None:
        """Store a part's row; its bytes are already durable.

        Args:
            max_bytes: most bytes that all parts of one upload may have together.

        Raises:
            NotFound: no such upload.
            InvalidRequest: it takes no parts any more, or this one would be too much.
        """
        with self._database.write() as connection:
            require_pending(self._load(connection, part.upload_id))
            query = select(func.count(), func.coalesce(func.sum(_PARTS.c.bytes), 0)).where(_PARTS.c.upload_id == part.upload_id)
            count, total = connection.execute(query).one()
            if count >= MAX_PARTS:
                raise InvalidRequest(f"Upload {part.upload_id} has the maximum of {MAX_PARTS} parts.", param="data")
            if total + part.bytes > max_bytes:
                message = f"The parts of upload {part.upload_id} would hold more than the maximum of {max_bytes} bytes together."
                raise InvalidRequest(message, param="data")
            connection.execute(insert(_PARTS), dataclasses.asdict(part))

    def parts(self, upload_id: str, part_ids: Sequence[str]) -> tuple[PartRecord, ...]:
        """The named parts of an upload, in the given order.

        Raises:
            InvalidRequest: one is not a part of this upload, or is named twice.
        """
        columns = [_PARTS.c[f.name] for f in dataclasses.fields(PartRecord)]
        with self._database.read() as connection:
            rows = connection.execute(select(*columns).where(_PARTS.c.upload_id == upload_id)).all()
        known = {row.id: PartRecord(**row._asdict()) for row in rows}
        seen: set[str] = set()
        for index, part_id in enumerate(part_ids):
            if part_id not in known:
                message = f"Invalid 'part_ids[{index}]': {part_id[:100]!r} is not a part of upload {upload_id}."
                raise InvalidRequest(message, code="invalid_value", param=f"part_ids[{index}]")
            if part_id in seen:
                message = f"Invalid 'part_ids[{index}]': {part_id!r} is named twice."
                raise InvalidRequest(message, code="invalid_value", param=f"part_ids[{index}]")
            seen.add(part_id)
        return tuple(known[part_id] for part_id in part_ids)

    def complete(self, upload_id: str, part_ids: Sequence[str], *, md5: str, file: FileRecord, started_at: float) -> Settled:
        """The upload becomes its file, in one transaction; or the earlier one answers when it did already.

        Args:
            md5: checksum of the file's bytes.
            file: its blob is already durable.
            started_at: an upload that was pending then may be completed, however long joining its parts took.

        Raises:
            NotFound: no such upload.
            InvalidRequest: it is cancelled or expired, or was completed otherwise.
        """
        with self._database.write() as connection:
            upload = self._load(connection, upload_id, now=started_at)
            if is_repeated(upload, part_ids, md5):
                return upload, ()
            require_pending(upload)
            insert_file(connection, file, self._owner_of(connection, upload_id))
            done = {"status": UploadStatus.COMPLETED.value, "part_ids": list(part_ids), "md5": md5, "file_id": file.id}
            connection.execute(update(schema.uploads).where(schema.uploads.c.id == upload_id).values(done))
            freed = _forget_parts(connection, upload_id)
            return self._load(connection, upload_id), freed

    def cancel(self, upload_id: str) -> Settled:
        """A pending upload is cancelled; one that is cancelled or expired stays as it is.

        Raises:
            NotFound: no such upload.
            InvalidRequest: it is completed.
        """
        with self._database.write() as connection:
            upload = self._load(connection, upload_id)
            if upload.status is UploadStatus.COMPLETED:
                raise InvalidRequest(f"Upload {upload_id} is completed and cannot be cancelled. Delete its file instead.")
            if upload.status is not UploadStatus.PENDING:
                return upload, ()
            values = {"status": UploadStatus.CANCELLED.value}
            connection.execute(update(schema.uploads).where(schema.uploads.c.id == upload_id).values(values))
            freed = _forget_parts(connection, upload_id)
            return self._load(connection, upload_id), freed

    def forget_expired_parts(self) -> None:
        """Remove the rows of parts whose upload expired long enough ago that no completion can still be reading them."""
        table = schema.uploads
        long_ago = self._clock() - LIFETIME_SECONDS
        expired = select(table.c.id).where(table.c.status == UploadStatus.PENDING.value, table.c.expires_at <= long_ago)
        with self._database.write() as connection:
            connection.execute(delete(_PARTS).where(_PARTS.c.upload_id.in_(expired)))

    def all_part_ids(self) -> frozenset[str]:
        """Ids of the parts whose bytes ``PartFiles.collect`` must keep."""
        with self._database.read() as connection:
            return frozenset(connection.execute(select(_PARTS.c.id)).scalars())

    def _load(self, connection: Connection, upload_id: str, now: float | None = None) -> UploadRecord:
        mine = self._mine(schema.uploads)
        row = connection.execute(select(*_COLUMNS).where(schema.uploads.c.id == upload_id, mine)).one_or_none()
        if row is None:
            raise NotFound(f"No such Upload object: {upload_id}", param="id")
        return _record(row, self._clock() if now is None else now)

    def _owner_of(self, connection: Connection, upload_id: str) -> str:
        return connection.execute(select(schema.uploads.c.project_id).where(schema.uploads.c.id == upload_id)).scalar_one()


def is_repeated(upload: UploadRecord, part_ids: Sequence[str], md5: str | None) -> bool:
    """True when the upload was completed by the same request already."""
    same = upload.part_ids == tuple(part_ids) and (md5 is None or md5 == upload.md5)
    return upload.status is UploadStatus.COMPLETED and same


def require_pending(upload: UploadRecord) -> None:
    """Raises InvalidRequest for an upload that is over."""
    if upload.status is not UploadStatus.PENDING:
        raise InvalidRequest(f"Upload {upload.id} is {upload.status.value}: it takes no parts and cannot be completed any more.")


def _forget_parts(connection: Connection, upload_id: str) -> tuple[str, ...]:
    mine = _PARTS.c.upload_id == upload_id
    ids = tuple(connection.execute(select(_PARTS.c.id).where(mine)).scalars())
    connection.execute(delete(_PARTS).where(mine))
    return ids


def _row(record: UploadRecord) -> dict[str, object]:
    part_ids = None if record.part_ids is None else list(record.part_ids)
    return {**dataclasses.asdict(record), "status": record.status.value, "part_ids": part_ids}


def _record(row: Row[Any], now: float) -> UploadRecord:
    values = row._asdict()
    status = UploadStatus(values["status"])
    if status is UploadStatus.PENDING and values["expires_at"] <= now:
        status = UploadStatus.EXPIRED
    part_ids = None if values["part_ids"] is None else tuple(values["part_ids"])
    return UploadRecord(**{**values, "status": status, "part_ids": part_ids})
