from collections.abc import Iterator
from pathlib import Path

import pytest

from luthier.api.model_names import find_served, find_trainable
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.jobs import ModelKind
from luthier.core.settings import OPENAI_BASE_NAMES, Settings
from luthier.storage.aliases import AliasStore
from luthier.storage.database import Database
from luthier.storage.models import ModelStore
from tests.support.office import new_database, new_model

TUNED = "ft:gpt-4o-mini-2024-07-18:org:suf:abcd1234"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = new_database(tmp_path)
    yield database
    database.close()


@pytest.fixture
def models(database: Database) -> ModelStore:
    store = ModelStore(database)
    store.put(new_model("luthier-mini", kind=ModelKind.BASE, path="builtin:luthier-mini"))
    store.put(new_model("big", kind=ModelKind.BASE, base="big", path="bases/big"))
    store.put(new_model(TUNED, sha256="d" * 64))
    store.put(new_model("ft:big:org::full0001", kind=ModelKind.FULL, base="big", path="models/full"))
    store.put(new_model("ft:orphan:org::abcd0002", base="orphan"))
    return store


@pytest.fixture
def aliases(database: Database) -> AliasStore:
    return AliasStore(database)


@pytest.mark.parametrize("name", OPENAI_BASE_NAMES)
def test_openais_names_stand_for_the_default_base(models: ModelStore, settings: Settings, name: str) -> None:
    served = find_served(models, settings, name)
    assert served.record.name == "luthier-mini"
    assert served.target.adapter_path is None
    trainable = find_trainable(models, settings, name)
    assert (trainable.model, trainable.base, trainable.parent_model) == (served.name, "luthier-mini", None)


def test_an_exact_name_comes_first(models: ModelStore, settings: Settings) -> None:
    models.put(new_model("gpt-4o", kind=ModelKind.BASE, base="gpt-4o", path="bases/gpt-4o"))
    served = find_served(models, settings, "gpt-4o")
    assert (served.name, served.target.base_path) == ("gpt-4o", str(settings.data_dir / "bases/gpt-4o"))
    assert find_trainable(models, settings, "gpt-4o").model == "gpt-4o"


def test_an_adapter_lies_on_its_base(models: ModelStore, settings: Settings) -> None:
    target = find_served(models, settings, TUNED).target
    assert target.base_path == str(settings.resolve_model_path("builtin:luthier-mini"))
    assert target.adapter_path == str(settings.data_dir / "models/one")
    assert target.revision == "d" * 64


def test_complete_weights_are_their_own_base(models: ModelStore, settings: Settings) -> None:
    target = find_served(models, settings, "ft:big:org::full0001").target
    assert (target.base_path, target.adapter_path) == (str(settings.data_dir / "models/full"), None)


def test_tuning_goes_on_under_the_same_base_name(models: ModelStore, settings: Settings) -> None:
    trainable = find_trainable(models, settings, TUNED)
    assert (trainable.model, trainable.base, trainable.parent_model) == ("gpt-4o-mini-2024-07-18", "luthier-mini", TUNED)


@pytest.mark.parametrize("name", ["nothing", "ft:orphan:org::abcd0002", "ft:gpt-4o:org::gone0001"])
def test_what_is_not_there_is_told(models: ModelStore, settings: Settings, name: str) -> None:
    with pytest.raises(NotFound) as missing:
        find_served(models, settings, name)
    assert missing.value.code == "model_not_found"
    with pytest.raises(InvalidRequest) as refused:
        find_trainable(models, settings, name)
    assert refused.value.code == "model_not_available"


def test_the_fingerprint_changes_with_the_weights(models: ModelStore, settings: Settings) -> None:
    before = find_served(models, settings, TUNED).fingerprint
    models.put(new_model(TUNED, sha256="e" * 64))
    assert find_served(models, settings, TUNED).fingerprint != before


def test_an_alias_answers_under_its_own_name(models: ModelStore, settings: Settings, aliases: AliasStore) -> None:
    aliases.create("support@prod", TUNED, by="key")
    served = find_served(models, settings, "support@prod")
    assert (served.name, served.record.name, served.target.name) == ("support@prod", TUNED, TUNED)


def test_an_alias_of_the_dated_name_counts_for_the_undated_one(models: ModelStore, settings: Settings, aliases: AliasStore) -> None:
    aliases.create("gpt-4o-mini-2024-07-18", "big", by="key")
    for name in ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"):
        assert find_served(models, settings, name).record.name == "big"
        trainable = find_trainable(models, settings, name)
        assert (trainable.model, trainable.base, trainable.parent_model) == ("gpt-4o-mini-2024-07-18", "big", None)
    assert find_served(models, settings, "gpt-4o").record.name == "luthier-mini"


def test_the_database_overrides_the_operators_table(models: ModelStore, tmp_path: Path, aliases: AliasStore) -> None:
    settings = Settings(data_dir=tmp_path, aliases={"support@prod": "big", "ghost": "not-there", "hop": "support@prod"})
    assert find_served(models, settings, "support@prod").record.name == "big"
    aliases.create("support@prod", TUNED, by="key")
    assert find_served(models, settings, "support@prod").record.name == TUNED
    for name in ("ghost", "hop"):  # a target that is gone, and a chain
        with pytest.raises(NotFound, match=name):
            find_served(models, settings, name)


@pytest.mark.parametrize(
    ("name", "target", "model"),
    [
        ("ft:gpt-3.5-turbo-0125:acme::AbC12345", TUNED, "gpt-3.5-turbo-0125"),
        ("ft:gpt-4.1-2025-04-14:acme::AbC12345", "big", "gpt-4.1-2025-04-14"),
        ("support@prod", TUNED, "support@prod"),
        ("davinci:ft-acme-2023-01-01", TUNED, "gpt-4o-mini-2024-07-18"),
        ("team:support", "big", "big"),
    ],
)
def test_a_job_on_an_alias_keeps_a_name_that_ft_names_can_hold(
    models: ModelStore, settings: Settings, aliases: AliasStore, name: str, target: str, model: str
) -> None:
    aliases.create(name, target, by="key")
    trainable = find_trainable(models, settings, name)
    assert (trainable.model, trainable.parent_model) == (model, None if target == "big" else target)
    assert trainable.base == ("big" if target == "big" else "luthier-mini")
