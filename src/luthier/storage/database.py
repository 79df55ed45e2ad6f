"""The SQLite database: connections, transactions and the schema's upgrade.

What it does: opens the file with write-ahead log and synchronous=FULL (an acknowledged write survives kill -9 and power
loss), hands out read and write transactions, upgrades the schema. What it does not: know what the tables mean. Called
by the stores; ``migrate`` by each process that may be the first to start.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from luthier.core.errors import InvalidRequest, StorageFull, Unavailable
from luthier.storage.durability import sync_folder
from luthier.storage.schema import HEAD

BUSY_SECONDS = 5.0
"""How long a transaction waits for another's write before it gives up."""

_PRIMARY_CODE = 0xFF
_WRITE = "luthier_write"


SQLITE_VERSION = sqlite3.sqlite_version
"""Of the library that Python was built with."""


class Database:
    """Connections to one SQLite file. Safe to use from many threads and from several processes.

    Args:
        path: the file; ``migrate`` has made it.
    """

    def __init__(self, path: Path) -> None:
        self._engine = _engine(path)
        # Threads of one process queue here, in order; SQLite's own waiting polls and knows no order.
        self._writing = threading.Lock()
        self._broken = False

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database throughout.

        Raises:
            Unavailable: the database stayed locked for more than 5 seconds, or cannot be opened.
        """
        with self._translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its beginning and commits at the end, or leaves no trace.

        Raises:
            Unavailable: the database stayed locked for more than 5 seconds, cannot be opened, or a disk error has ended writing.
            StorageFull: the disk is full.
        """
        if self._broken:
            raise Unavailable("The disk reported an error and nothing more is written. Restart the server after checking the disk.")
        if not self._writing.acquire(timeout=BUSY_SECONDS):
            raise _locked()
        try:
            with (
                self._translated(),
                self._engine.connect().execution_options(**{_WRITE: True}) as connection,
                connection.begin(),
            ):
                yield connection
        finally:
            self._writing.release()

    def close(self) -> None:
        """Close all pooled connections; the object can be used again afterwards."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            code = getattr(error.orig, "sqlite_errorcode", 0) & _PRIMARY_CODE
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise _locked() from error
            if code == sqlite3.SQLITE_FULL:
                raise StorageFull("The disk is full; nothing was changed.") from error
            if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise Unavailable("The database cannot be opened for writing. Is the data directory there, and writable?") from error
            if code == sqlite3.SQLITE_IOERR:
                # A retried fsync can succeed without having written anything, so the first failure is the last write.
                self._broken = True
                raise Unavailable("The disk reported an error; nothing more is written until the server restarts.") from error
            raise


class ChangeWatch:
    """Tells whether anybody has committed since it was last asked; a hundred times cheaper than a query that finds nothing.

    Args:
        path: the SQLite file; ``migrate`` has made it. Use it in one thread at a time.
    """

    def __init__(self, path: Path) -> None:
        # A connection of its own: the number counts what other connections commit.
        self._connection = sqlite3.connect(_address(path), uri=True, isolation_level=None, check_same_thread=False)
        self._version: int | None = None

    def changed(self) -> bool:
        """True the first time, and after each commit of another connection, of any process. True where it cannot be told."""
        try:
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            return True
        changed, self._version = version != self._version, version
        return changed

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def migrate(path: Path) -> None:
    """Create the database or bring its schema up to date; old or new, never between.

    Args:
        path: the SQLite file; its folder is made when missing.

    Raises:
        InvalidRequest: the file is damaged or not a database, or a newer version of Luthier wrote it.
        Unavailable: another process held the database for more than 5 seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.touch(mode=0o600)
        sync_folder(path.parent)
    if _checked_revision(path) == HEAD:
        return
    database = Database(path)
    try:
        with database.write() as connection:
            _upgrade(connection)
    finally:
        database.close()


def _upgrade(connection: Connection) -> None:
    # Alembic takes a quarter of a second to import; a start with a current schema does without it.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    folder = str(Path(__file__).resolve().parent / "migrations")
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise InvalidRequest(
            f"The data directory was written by a newer version of Luthier (this one knows the schema up to {HEAD}). "
            "Start it with that version, or use another data directory."
        ) from error


def _checked_revision(path: Path) -> str | None:
    """The schema revision in the file, None for an empty one; checks the file's integrity on the way."""
    damaged = f"{path.name} in the data directory is damaged or not a Luthier database. Restore it from a backup."
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise InvalidRequest(damaged)
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "alembic_version" not in tables:
            if tables:
                raise InvalidRequest(damaged)
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if row is None else str(row[0])
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & _PRIMARY_CODE in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise _locked() from error
        raise
    except sqlite3.DatabaseError as error:
        raise InvalidRequest(damaged) from error
    finally:
        connection.close()


def _address(path: Path) -> str:
    # mode=rw: a missing file is an error, not a new empty database that would hide the loss of the old one.
    return path.absolute().as_uri() + "?mode=rw"


def _engine(path: Path) -> Engine:
    address = _address(path)

    def connect() -> sqlite3.Connection:
        # isolation_level None: transactions begin where we say and not where the driver guesses.
        return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=8, max_overflow=-1)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    write = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _locked() -> Unavailable:
    return Unavailable("The database is busy with another write. Try again in a moment.")
