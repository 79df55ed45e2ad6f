"""Signs of life of the processes, for the health answer.

What it does: keeps the newest beat of each process in each of its roles. What it does not: decide who is dead. Beaten by ``worker`` from a
thread of its own; read by ``api``.
"""

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.sqlite import insert

from luthier.storage import schema
from luthier.storage.database import Database

_FORGET_SECONDS = 24 * 3600.0


class WorkerStore:
    """The table of beats."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(self, owner: str, role: str, now: float) -> None:
        """Note that process ``owner`` in ``role`` lives at ``now`` (Unix seconds); forgets what is a day old."""
        statement = insert(schema.workers).values(owner=owner, role=role, beat_at=now)
        with self._database.write() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["owner", "role"], set_={"beat_at": now}))
            connection.execute(delete(schema.workers).where(schema.workers.c.beat_at < now - _FORGET_SECONDS))

    def latest(self, role: str) -> float | None:
        """When a process in ``role`` last gave a sign of life, Unix seconds; None when none ever did."""
        with self._database.read() as connection:
            return connection.execute(select(func.max(schema.workers.c.beat_at)).where(schema.workers.c.role == role)).scalar_one()
