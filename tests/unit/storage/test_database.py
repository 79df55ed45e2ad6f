"""Transactions, errors in the house's words, and the schema's upgrade."""

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import OperationalError

import luthier.storage
from luthier.core.errors import InvalidRequest, StorageFull, Unavailable
from luthier.storage import database as module
from luthier.storage import schema
from luthier.storage.database import ChangeWatch, Database, migrate

BEAT = {"owner": "one", "role": "trainer", "beat_at": 1.0}


def count(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(schema.workers)).scalar_one()


def sqlite_error(code: int) -> OperationalError:
    error = sqlite3.OperationalError("disk")
    error.sqlite_errorcode = code
    return OperationalError("COMMIT", {}, error)


def write_and_raise(database: Database, error: Exception) -> None:
    with database.write() as connection:
        connection.execute(insert(schema.workers), BEAT)
        raise error


def test_migrated_tables_are_those_of_the_schema(database: Database) -> None:
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), schema.metadata) == []


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(luthier.storage.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD


def test_migrate_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    migrate(path)
    database = Database(path)
    with database.write() as connection:
        connection.execute(insert(schema.workers), BEAT)
    migrate(path)
    assert count(database) == 1


def test_an_older_database_is_brought_up_to_date_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch()
    old = Database(path)
    with old.write() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(luthier.storage.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(insert(schema.workers), BEAT)
    old.close()
    migrate(path)
    database = Database(path)
    assert count(database) == 1
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []


def test_migrate_makes_the_folder_and_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "50% new data" / "state.db"
    migrate(path)
    assert path.stat().st_mode & 0o077 == 0
    assert count(Database(path)) == 0


def test_current_schema_starts_without_alembic(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    migrate(path)
    code = (
        "import sys, pathlib; from luthier.storage.database import migrate; migrate(pathlib.Path(sys.argv[1]));"
        "sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 0


def test_processes_may_migrate_at_once(tmp_path: Path) -> None:
    code = "import sys, pathlib; from luthier.storage.database import migrate; migrate(pathlib.Path(sys.argv[1]))"
    path = tmp_path / "state.db"
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert count(Database(path)) == 0


def test_failed_migration_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.db"
    real = module._upgrade

    def upgrade_and_die(connection: object) -> None:
        real(connection)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_upgrade", upgrade_and_die)
    with pytest.raises(KeyboardInterrupt):
        migrate(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    migrate(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(InvalidRequest, match="newer version of Luthier"):
        migrate(path)


@pytest.mark.parametrize("content", [b"not a database at all, whatever its name says" * 100, None])
def test_damaged_or_foreign_file_is_refused_and_kept(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "state.db"
    if content is None:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE elsewhere (x)")
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(InvalidRequest, match=r"state\.db"):
        migrate(path)
    assert path.read_bytes() == before


def test_corrupt_page_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    migrate(path)
    with sqlite3.connect(path) as connection:
        connection.executemany("INSERT INTO workers VALUES (?, 'trainer', 1.0)", [(f"owner-{i:04}",) for i in range(500)])
    connection.close()
    data = bytearray(path.read_bytes())
    data[-4096 * 3 :] = b"\xff" * (4096 * 3)
    path.write_bytes(data)
    with pytest.raises(InvalidRequest, match="damaged"):
        migrate(path)


def test_writes_are_durable_and_checked(database: Database) -> None:
    with database.write() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_write_that_raises_leaves_no_trace(database: Database) -> None:
    with pytest.raises(KeyError):
        write_and_raise(database, KeyError())
    assert count(database) == 0


def test_read_sees_one_state(database: Database) -> None:
    with database.read() as connection:
        query = select(func.count()).select_from(schema.workers)
        assert connection.execute(query).scalar_one() == 0
        with database.write() as writer:
            writer.execute(insert(schema.workers), BEAT)
        assert connection.execute(query).scalar_one() == 0
    assert count(database) == 1


def test_missing_file_is_not_created_anew(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="data directory"), Database(tmp_path / "gone.db").read():
        pass
    assert not (tmp_path / "gone.db").exists()


def test_locked_by_another_process_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    path = tmp_path / "state.db"
    migrate(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    database = Database(path)
    with pytest.raises(Unavailable, match="busy"), database.write():
        pass
    assert count(database) == 0
    other.execute("ROLLBACK")
    with database.write() as connection:
        connection.execute(insert(schema.workers), BEAT)
    assert count(database) == 1


def test_locked_by_another_thread_is_unavailable(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with database.write():
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    with pytest.raises(Unavailable, match="busy"), database.write():
        pass
    done.set()
    thread.join()
    with database.write() as connection:
        connection.execute(insert(schema.workers), BEAT)


def test_full_disk_is_told_and_passes(database: Database) -> None:
    with pytest.raises(StorageFull):
        write_and_raise(database, sqlite_error(sqlite3.SQLITE_FULL))
    with database.write() as connection:
        connection.execute(insert(schema.workers), BEAT)
    assert count(database) == 1


def test_disk_error_ends_writing_but_not_reading(database: Database) -> None:
    with pytest.raises(Unavailable):
        write_and_raise(database, sqlite_error(sqlite3.SQLITE_IOERR_FSYNC))
    with pytest.raises(Unavailable, match="Restart"), database.write():
        pass
    assert count(database) == 0


def test_acknowledged_writes_survive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    migrate(path)
    code = """
import itertools, pathlib, sys
from luthier.storage.database import Database
from luthier.storage.workers import WorkerStore
workers = WorkerStore(Database(pathlib.Path(sys.argv[1])))
for n in itertools.count():
    workers.beat(f"owner-{n}", "trainer", 1.0)
    print(n, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(30):
        process.stdout.readline()
    process.kill()
    acknowledged = 30 + len(process.stdout.read().split())
    process.wait()
    migrate(path)
    assert count(Database(path)) in (acknowledged, acknowledged + 1)


def test_many_threads_write_without_loss(database: Database) -> None:
    def write(thread: int) -> None:
        for i in range(5):
            with database.write() as connection:
                connection.execute(insert(schema.workers), {**BEAT, "owner": f"{thread}-{i}"})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(database) == 60


def test_a_watch_sees_what_other_connections_commit(database: Database, tmp_path: Path) -> None:
    watch = ChangeWatch(tmp_path / "state.db")
    assert watch.changed()
    assert not watch.changed()
    count(database)
    assert not watch.changed()
    with database.write() as connection:
        connection.execute(insert(schema.workers), {**BEAT, "owner": "two"})
    assert watch.changed()
    assert not watch.changed()
    with pytest.raises(ZeroDivisionError):
        write_and_raise(database, ZeroDivisionError())
    assert not watch.changed()
    watch.close()
    assert watch.changed(), "what cannot be told counts as a change"
