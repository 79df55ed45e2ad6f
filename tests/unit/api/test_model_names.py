from collections.abc import Iterator
from pathlib import Path

import pytest

from luthier.api.model_names import find_served, find_trainable
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.jobs import ModelKind
from luthier.core.settings import OPENAI_BASE_NAMES, Settings
from luthier.storage.models import ModelStore
from tests.support.office import new_database, new_model

TUNED = "ft:gpt-4o-mini-2024-07-18:org:suf:abcd1234"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def models(tmp_path: Path) -> Iterator[ModelStore]:
    database = new_database(tmp_path)
    store = ModelStore(database)
    store.put(new_model("luthier-mini", kind=ModelKind.BASE, path="builtin:luthier-mini"))
    store.put(new_model("big", kind=ModelKind.BASE, base="big", path="bases/big"))
    store.put(new_model(TUNED, sha256="d" * 64))
    store.put(new_model("ft:big:org::full0001", kind=ModelKind.FULL, base="big", path="models/full"))
    store.put(new_model("ft:orphan:org::abcd0002", base="orphan"))
    yield store
    database.close()


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
