"""Webhook endpoints, and the leases under which their deliveries are sent.

What it does: inserts, finds, lists, changes and deletes endpoints; hands out due deliveries under leases, at most one for
each endpoint at a time, and notes their outcome. What it does not: send, or decide when to try again. Called by ``api``.
The rows of deliveries are made by ``outbox.py``.
"""

import builtins
import dataclasses
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.webhooks import MAX_ENDPOINTS, OldSecret, WebhookDelivery, WebhookEndpoint, WebhookEvent
from luthier.storage import schema
from luthier.storage.database import Database
from luthier.storage.pages import Page, cut

_ENDPOINTS = schema.webhook_endpoints
_ROWS = schema.webhook_deliveries
_COLUMNS = tuple(_ENDPOINTS.c[f.name] for f in dataclasses.fields(WebhookEndpoint))
_CHANGEABLE = frozenset({"name", "url", "event_types"})
_MAX_OLD_SECRETS = 8


class WebhookStore:
    """The tables of endpoints and deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, endpoint: WebhookEndpoint) -> None:
        """Store a new endpoint.

        Raises:
            InvalidRequest: there are ``MAX_ENDPOINTS`` already.
        """
        with self._database.write() as connection:
            if connection.execute(select(func.count()).select_from(_ENDPOINTS)).scalar_one() >= MAX_ENDPOINTS:
                raise InvalidRequest(f"This server has {MAX_ENDPOINTS} webhook endpoints, which is the maximum. Delete one first.")
            connection.execute(insert(_ENDPOINTS), dataclasses.asdict(endpoint))

    def get(self, endpoint_id: str) -> WebhookEndpoint | None:
        """The endpoint, or None."""
        with self._database.read() as connection:
            return _find(connection, endpoint_id)

    def list(self, *, limit: int = 20, after: str | None = None) -> Page[WebhookEndpoint]:
        """Endpoints, newest first; ``after`` is the id of the last endpoint of the page before.

        Raises:
            NotFound: ``after`` is not an endpoint.
        """
        query = select(*_COLUMNS)
        with self._database.read() as connection:
            if after is not None:
                seq = connection.execute(select(_ENDPOINTS.c.seq).where(_ENDPOINTS.c.id == after)).scalar_one_or_none()
                if seq is None:
                    raise NotFound(f"No such object: {after}", param="after")
                query = query.where(_ENDPOINTS.c.seq < seq)
            return cut(connection.execute(query.order_by(_ENDPOINTS.c.seq.desc()).limit(limit + 1)).all(), limit, _endpoint)

    def update(self, endpoint_id: str, changes: Mapping[str, object], now: float) -> WebhookEndpoint | None:
        """Change name, address or types; None when there is no such endpoint. Values that are as before change nothing."""
        if wrong := changes.keys() - _CHANGEABLE:
            raise ValueError(f"Not fields of an endpoint that can change: {sorted(wrong)}.")
        with self._database.write() as connection:
            before = _find(connection, endpoint_id)
            if before is None:
                return None
            after = dataclasses.replace(before, **changes)  # type: ignore[arg-type]
            return before if after == before else _put(connection, dataclasses.replace(after, updated_at=int(now)))

    def rotate(self, endpoint_id: str, secret: str, now: float, keep_seconds: float) -> WebhookEndpoint | None:
        """Sign with a new secret; None when there is no such endpoint.

        Args:
            keep_seconds: how long the secret so far signs too; with 0 every older secret ends at once.
        """
        with self._database.write() as connection:
            before = _find(connection, endpoint_id)
            if before is None:
                return None
            kept: tuple[OldSecret, ...] = ()
            if keep_seconds > 0:
                living = tuple(old for old in before.old_secrets if old.expires_at > now)
                kept = (OldSecret(secret=before.secret, expires_at=now + keep_seconds), *living)[:_MAX_OLD_SECRETS]
            return _put(connection, dataclasses.replace(before, secret=secret, old_secrets=kept, updated_at=int(now)))

    def delete(self, endpoint_id: str) -> bool:
        """Delete an endpoint and what is owed to it; False when there was none."""
        with self._database.write() as connection:
            connection.execute(delete(_ROWS).where(_ROWS.c.endpoint_id == endpoint_id))
            return connection.execute(delete(_ENDPOINTS).where(_ENDPOINTS.c.id == endpoint_id)).rowcount == 1

    def claim(self, now: float, lease_seconds: float, limit: int) -> builtins.list[tuple[WebhookEndpoint, WebhookDelivery]]:
        """Lease due deliveries: for each endpoint that has none on its way, the oldest one that is due."""
        busy = select(_ROWS.c.endpoint_id).where(_ROWS.c.lease_expires_at > now)
        due = (
            select(func.min(_ROWS.c.seq))
            .where(_ROWS.c.next_attempt_at <= now, _ROWS.c.endpoint_id.not_in(busy))
            .group_by(_ROWS.c.endpoint_id)
            .limit(limit)
        )
        with self._database.read() as connection:
            # The loop asks often; only one that has seen something takes the write lock, and then looks again.
            if connection.execute(due).first() is None:
                return []
        with self._database.write() as connection:
            chosen = connection.execute(due).scalars().all()
            leased = {"attempts": _ROWS.c.attempts + 1, "lease_expires_at": now + lease_seconds}
            connection.execute(update(_ROWS).where(_ROWS.c.seq.in_(chosen)).values(leased))
            rows = connection.execute(select(_ROWS).where(_ROWS.c.seq.in_(chosen)).order_by(_ROWS.c.seq)).all()
            return [(_load(connection, row.endpoint_id), _delivery(row)) for row in rows]

    def close(self, delivery: WebhookDelivery) -> bool:
        """Nothing more is owed: it was delivered or given up. False when the lease had passed on, or the endpoint is deleted."""
        with self._database.write() as connection:
            return connection.execute(delete(_ROWS).where(_held(delivery))).rowcount == 1

    def retry(self, delivery: WebhookDelivery, at: float) -> bool:
        """The attempt failed; the next one is due at this time. False when the lease had passed on, or the endpoint is deleted."""
        with self._database.write() as connection:
            waiting = {"next_attempt_at": at, "lease_expires_at": None}
            return connection.execute(update(_ROWS).where(_held(delivery)).values(waiting)).rowcount == 1

    def owed(self, endpoint_id: str) -> builtins.list[WebhookDelivery]:
        """What is still owed to an endpoint, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(_ROWS).where(_ROWS.c.endpoint_id == endpoint_id).order_by(_ROWS.c.seq))
            return [_delivery(row) for row in rows]


def _held(delivery: WebhookDelivery) -> Any:
    return (_ROWS.c.id == delivery.id) & (_ROWS.c.attempts == delivery.attempts) & _ROWS.c.lease_expires_at.is_not(None)


def _find(connection: Connection, endpoint_id: str) -> WebhookEndpoint | None:
    row = connection.execute(select(*_COLUMNS).where(_ENDPOINTS.c.id == endpoint_id)).one_or_none()
    return None if row is None else _endpoint(row)


def _load(connection: Connection, endpoint_id: str) -> WebhookEndpoint:
    return _endpoint(connection.execute(select(*_COLUMNS).where(_ENDPOINTS.c.id == endpoint_id)).one())


def _put(connection: Connection, endpoint: WebhookEndpoint) -> WebhookEndpoint:
    connection.execute(update(_ENDPOINTS).where(_ENDPOINTS.c.id == endpoint.id).values(dataclasses.asdict(endpoint)))
    return endpoint


def _endpoint(row: Row[Any]) -> WebhookEndpoint:
    values = row._asdict()
    old = tuple(OldSecret(**item) for item in values["old_secrets"])
    return WebhookEndpoint(**{**values, "event_types": tuple(values["event_types"]), "old_secrets": old})


def _delivery(row: Row[Any]) -> WebhookDelivery:
    event = WebhookEvent(id=row.event_id, type=row.event_type, created_at=row.event_created_at, object_id=row.object_id)
    return WebhookDelivery(id=row.id, event=event, attempts=row.attempts)
