"""Events about to be told: rows written in the transaction of the change that they tell of.

What it does: one delivery row for each endpoint that wants the event's type, so that none is lost by a crash and none is
told of a change that never happened. What it does not: send (``api/webhooks``) or change rows later (``webhooks.py``).
Called by ``storage/jobs.py`` and ``storage/batches.py``.
"""

from sqlalchemy import Connection, insert, select

from luthier.core.ids import new_webhook_event_id, new_webhook_id
from luthier.storage import schema


def enqueue(connection: Connection, *, event_type: str, object_id: str, created_at: int, now: float) -> None:
    """Owe the event to every endpoint that wants it, inside the caller's transaction."""
    endpoints = schema.webhook_endpoints
    query = select(endpoints.c.id, endpoints.c.event_types).order_by(endpoints.c.seq)
    wanting = [row.id for row in connection.execute(query) if event_type in row.event_types]
    if not wanting:
        return
    event = {"event_id": new_webhook_event_id(), "event_type": event_type, "event_created_at": created_at, "object_id": object_id}
    rows = [{**event, "id": new_webhook_id(), "endpoint_id": endpoint_id, "attempts": 0, "next_attempt_at": now} for endpoint_id in wanting]
    connection.execute(insert(schema.webhook_deliveries), rows)
