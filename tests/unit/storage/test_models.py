"""Models: put, find, list, delete."""

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

import luthier.storage
from luthier.core.jobs import ModelKind
from luthier.storage.database import Database, migrate
from luthier.storage.models import ModelStore
from tests.support.office import new_model


@pytest.fixture
def models(database: Database) -> ModelStore:
    return ModelStore(database)


def test_record_comes_back_as_it_was(models: ModelStore) -> None:
    record = new_model("ft:a:b:c:d", kind=ModelKind.FULL, job_id="ftjob-1", step=3, row_format="prompt_completion", sha256="e" * 64)
    models.put(record)
    assert models.get(record.name) == record
    assert models.get("unknown") is None


def test_list_is_oldest_first_and_a_replacement_keeps_its_place(models: ModelStore) -> None:
    first, second = new_model("first"), new_model("second", created_at=1)
    models.put(first)
    models.put(second)
    changed = new_model("first", sha256="f" * 64)
    models.put(changed)
    assert models.list() == (changed, second)


def test_delete_happens_once(models: ModelStore) -> None:
    models.put(new_model("one"))
    assert models.delete("one")
    assert not models.delete("one")
    assert models.get("one") is None
    assert models.list() == ()


def test_deleted_name_may_be_put_again(models: ModelStore) -> None:
    models.put(new_model("one"))
    models.delete("one")
    again = new_model("one", sha256="9" * 64)
    models.put(again)
    assert models.get("one") == again


def test_a_row_from_before_has_neither_revision_nor_licence(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    config = Config()
    config.set_main_option("script_location", str(Path(luthier.storage.__file__).parent / "migrations"))
    path.touch()
    before = Database(path)
    with before.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        values = "'old', 'base', 'old', 'bases/old', 1, 'system', 'chat', ''"
        connection.execute(text(f"INSERT INTO models (name, kind, base, path, created_at, owned_by, row_format, sha256) VALUES ({values})"))
    before.close()
    migrate(path)
    after = Database(path)
    record = ModelStore(after).get("old")
    after.close()
    assert record is not None
    assert (record.kind, record.revision, record.licence) == (ModelKind.BASE, None, None)
