"""Sessions of the dashboard that were ended before their time.

What it does: remembers them until they would have expired anyway. What it does not: know the others; a session is a signed cookie
(``api/sessions.py``). Called by ``api``.
"""

from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert

from luthier.storage import schema
from luthier.storage.database import Database

_TABLE = schema.ended_sessions


class SessionStore:
    """The table of ended sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def end(self, session_id: str, *, expires_at: int, now: int) -> None:
        """The session is over; forgets those that have expired by ``now`` (Unix seconds)."""
        with self._database.write() as connection:
            connection.execute(insert(_TABLE).values(id=session_id, expires_at=expires_at).on_conflict_do_nothing())
            connection.execute(delete(_TABLE).where(_TABLE.c.expires_at < now))

    def is_ended(self, session_id: str) -> bool:
        """Whether somebody logged out of it."""
        with self._database.read() as connection:
            return connection.execute(select(_TABLE.c.id).where(_TABLE.c.id == session_id)).one_or_none() is not None
