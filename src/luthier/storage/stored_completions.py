"""Rows of stored chat completions.

What it does: adds, finds, lists, changes and deletes them. What it does not: know OpenAI's objects or training rows (``api``
does). Called by ``api``. A deleted row loses what was said at once and stays as a tombstone, so that paging goes on from it.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Row, exists, func, insert, select, update

from luthier.core.errors import NotFound
from luthier.core.stored_completions import StoredCompletion
from luthier.storage import schema
from luthier.storage.database import Database
from luthier.storage.ownership import Owned
from luthier.storage.pages import Page, cut

_TABLE = schema.stored_completions
_FIELDS = tuple(f.name for f in dataclasses.fields(StoredCompletion))
_COLUMNS = tuple(_TABLE.c[name] for name in _FIELDS)
_LIVE = _TABLE.c.deleted_at.is_(None)
_NOTHING_SAID: dict[str, Any] = {"completion": {}, "messages": [], "tools": [], "metadata": {}}


class StoredCompletionStore(Owned):
    """The table of stored completions."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def add(self, record: StoredCompletion) -> None:
        """Store a finished answer."""
        with self._database.write() as connection:
            connection.execute(insert(_TABLE), {**{name: getattr(record, name) for name in _FIELDS}, "project_id": self._owner})

    def get(self, completion_id: str) -> StoredCompletion | None:
        """The record, or None when there is none or it was deleted."""
        with self._database.read() as connection:
            row = connection.execute(select(*_COLUMNS).where(_TABLE.c.id == completion_id, self._mine(_TABLE), _LIVE)).one_or_none()
        return None if row is None else _record(row)

    def list(
        self,
        *,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
        limit: int = 20,
        order: str = "asc",
        after: str | None = None,
    ) -> Page[StoredCompletion]:
        """Completions in the order they were stored.

        Args:
            model: only answers of this model.
            metadata: only those whose metadata has all these values.
            limit: most items on the page.
            order: ``asc`` for oldest first, ``desc`` for newest first.
            after: id of the last completion of the page before, which may have been deleted since.

        Raises:
            NotFound: ``after`` never was a stored completion.
        """
        seq = _TABLE.c.seq
        query = select(*_COLUMNS).where(self._mine(_TABLE), _LIVE)
        if model is not None:
            query = query.where(_TABLE.c.model == model)
        for key, value in (metadata or {}).items():
            pairs = func.json_each(_TABLE.c.metadata).table_valued("key", "value")
            query = query.where(exists().where(pairs.c.key == key, pairs.c.value == value).correlate(_TABLE))
        with self._database.read() as connection:
            if after is not None:
                cursor = connection.execute(select(seq).where(_TABLE.c.id == after, self._mine(_TABLE))).scalar_one_or_none()
                if cursor is None:
                    raise NotFound(f"No such chat completion: {after}", param="after")
                query = query.where(seq > cursor if order == "asc" else seq < cursor)
            query = query.order_by(seq.asc() if order == "asc" else seq.desc())
            return cut(connection.execute(query.limit(limit + 1)).all(), limit, _record)

    def set_metadata(self, completion_id: str, metadata: Mapping[str, str]) -> bool:
        """Replace a completion's metadata; False when there is none of this id."""
        return self._change(completion_id, {"metadata": dict(metadata)})

    def delete(self, completion_id: str) -> bool:
        """Delete a completion and everything that was said in it; False when there was none."""
        return self._change(completion_id, {**_NOTHING_SAID, "deleted_at": self._clock()})

    def _change(self, completion_id: str, values: dict[str, Any]) -> bool:
        found = (_TABLE.c.id == completion_id, self._mine(_TABLE), _LIVE)
        with self._database.write() as connection:
            return connection.execute(update(_TABLE).where(*found).values(values)).rowcount == 1


def _record(row: Row[Any]) -> StoredCompletion:
    plain = row._asdict()
    return StoredCompletion(**{**plain, "messages": tuple(plain["messages"]), "tools": tuple(plain["tools"])})
