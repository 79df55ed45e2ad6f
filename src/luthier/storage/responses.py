"""Stored responses: the answered object, and the items before and in it.

What it does: adds, finds and deletes responses, pages through their input, finds single items; forgets everything after
30 days. What it does not: know what an item says. Called by ``api``. A response carries the whole context that it was made
from, so that deleting or outliving an earlier turn breaks no later one.
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, select

from luthier.core.errors import NotFound
from luthier.storage import schema
from luthier.storage.database import Database
from luthier.storage.ownership import Owned
from luthier.storage.pages import Page, cut

KEPT_SECONDS = 30 * 24 * 3600
"""How long a response can be read after it was created, seconds."""

Item = dict[str, Any]
_RESPONSES = schema.responses
_ITEMS = schema.response_items


class ResponseStore(Owned):
    """The tables of responses and of their items."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def add(self, body: dict[str, Any], input_items: Sequence[Item]) -> None:
        """Store an answered response with everything it was made from; responses older than 30 days are forgotten.

        Args:
            body: the response object; its ``id``, ``created_at`` and ``output`` are read.
            input_items: the whole context in its order, each item with an ``id`` that stands once in it.
        """
        with self._database.write() as connection:
            old = select(_RESPONSES.c.id).where(_RESPONSES.c.created_at <= self._oldest())
            _forget(connection, connection.execute(old).scalars().all())
            connection.execute(insert(_RESPONSES).values(id=body["id"], created_at=body["created_at"], body=body, project_id=self._owner))
            rows = [
                {"response_id": body["id"], "item_id": item["id"], "is_output": is_output, "item": item}
                for is_output, items in ((False, input_items), (True, body["output"]))
                for item in items
            ]
            if rows:
                connection.execute(insert(_ITEMS), rows)

    def get(self, response_id: str) -> dict[str, Any] | None:
        """The response object, or None when there is none, it was deleted, or 30 days have passed."""
        query = select(_RESPONSES.c.body).where(*self._kept(response_id))
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def context(self, response_id: str) -> tuple[Item, ...] | None:
        """Input and output of a response in their order, or None as ``get``."""
        with self._database.read() as connection:
            if connection.execute(select(_RESPONSES.c.id).where(*self._kept(response_id))).one_or_none() is None:
                return None
            query = select(_ITEMS.c.item).where(_ITEMS.c.response_id == response_id).order_by(_ITEMS.c.seq)
            return tuple(connection.execute(query).scalars())

    def input_items(self, response_id: str, *, limit: int = 20, order: str = "desc", after: str | None = None) -> Page[Item]:
        """The items that a response was made from.

        Args:
            response_id: the response.
            limit: most items on the page.
            order: ``desc`` for the last first, ``asc`` for the first first.
            after: id of the last item of the page before.

        Raises:
            NotFound: ``after`` is no input item of this response.
        """
        seq = _ITEMS.c.seq
        own = (_ITEMS.c.response_id == response_id, _ITEMS.c.is_output.is_(False))
        query = select(_ITEMS.c.item).where(*own)
        query = query.where(_ITEMS.c.response_id.in_(select(_RESPONSES.c.id).where(self._mine(_RESPONSES))))
        with self._database.read() as connection:
            if after is not None:
                cursor = connection.execute(select(seq).where(*own, _ITEMS.c.item_id == after)).scalar_one_or_none()
                if cursor is None:
                    raise NotFound(f"Item with id '{after}' not found.", param="after")
                query = query.where(seq > cursor if order == "asc" else seq < cursor)
            query = query.order_by(seq.asc() if order == "asc" else seq.desc())
            return cut(connection.execute(query.limit(limit + 1)).scalars().all(), limit, lambda item: item)

    def find_item(self, item_id: str) -> Item | None:
        """An item of any response of the project that is still kept, as it last stood in one."""
        query = (
            select(_ITEMS.c.item)
            .join(_RESPONSES, _RESPONSES.c.id == _ITEMS.c.response_id)
            .where(_ITEMS.c.item_id == item_id, self._mine(_RESPONSES), _RESPONSES.c.created_at > self._oldest())
            .order_by(_ITEMS.c.seq.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def delete(self, response_id: str) -> bool:
        """Delete a response and its items for good; False when ``get`` finds none."""
        with self._database.write() as connection:
            if connection.execute(select(_RESPONSES.c.id).where(*self._kept(response_id))).one_or_none() is None:
                return False
            _forget(connection, [response_id])
            return True

    def _kept(self, response_id: str) -> tuple[ColumnElement[bool], ...]:
        return _RESPONSES.c.id == response_id, self._mine(_RESPONSES), _RESPONSES.c.created_at > self._oldest()

    def _oldest(self) -> float:
        return self._clock() - KEPT_SECONDS


def _forget(connection: Connection, response_ids: Collection[str]) -> None:
    for response_id in response_ids:
        connection.execute(delete(_ITEMS).where(_ITEMS.c.response_id == response_id))
        connection.execute(delete(_RESPONSES).where(_RESPONSES.c.id == response_id))
