"""Adding a base model: what its record keeps, and names that are taken."""

from pathlib import Path

import pytest

from luthier.core.errors import InvalidRequest
from luthier.core.settings import Settings
from luthier.models.facts import revision
from luthier.storage.aliases import AliasStore
from luthier.storage.database import Database
from luthier.storage.models import ModelStore
from luthier.worker.add_base import add_base
from tests.support.office import new_database, new_model
from tests.support.tiny_models import build


def test_a_base_keeps_its_revision_and_the_licence_of_its_card(tmp_path: Path) -> None:
    folder = build("llama", tmp_path / "tiny")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    settings = Settings(data_dir=tmp_path / "data")
    facts = add_base(settings, folder, "tiny").facts
    database = Database(settings.state_database)
    record = ModelStore(database).get("tiny")
    database.close()
    assert record is not None
    assert (record.revision, record.licence) == (facts.revision, "apache-2.0")
    assert record.revision == revision(settings.resolve_model_path(record.path))


def test_the_name_of_an_alias_is_taken(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, aliases={"theirs": "one"})
    database = new_database(tmp_path)
    ModelStore(database).put(new_model("one"))
    AliasStore(database).create("ours", "one", by="key")
    database.close()
    for name in ("ours", "theirs"):
        with pytest.raises(InvalidRequest, match="is an alias on this server"):
            add_base(settings, tmp_path / "never-read", name)
