"""A model's name leads to the folder that a server would use."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.jobs import ModelKind
from luthier.core.settings import Settings
from luthier.storage.aliases import AliasStore
from luthier.storage.models import ModelStore
from luthier.worker.base_folder import FoundModel, find_model
from tests.support.office import new_database, new_model
from tests.support.tiny_models import CHATML, mini_folder, tokenizer_folder


def test_without_a_data_directory_there_is_the_embedded_base(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "none", aliases={"ours": "luthier-mini"})
    for name in ("luthier-mini", "gpt-4o-mini", "gpt-4.1-nano-2025-04-14", "ours"):
        assert find_model(name, settings) == FoundModel(name="luthier-mini", folder=mini_folder())
    assert not settings.data_dir.exists()
    with pytest.raises(NotFound, match=r"No model is named 'gpt-9' here.*luthier-mini"):
        find_model("gpt-9", settings)


def test_a_folder_is_named_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tokenizer_folder(tmp_path / "mine", CHATML)
    settings = Settings(data_dir=tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    for name in (str(folder), "./mine", "mine"):
        assert find_model(name, settings).folder.resolve() == folder
    with pytest.raises(InvalidRequest, match="has no tokenizer"):
        find_model("./none", settings)


def test_models_and_aliases_of_the_data_directory(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, default_base="big")
    database = new_database(tmp_path)
    models = ModelStore(database)
    models.put(replace(new_model("big"), kind=ModelKind.BASE, base="big", path="bases/big"))
    models.put(replace(new_model("ft:big:x::1"), kind=ModelKind.ADAPTER, base="big", path="models/one"))
    models.put(replace(new_model("ft:big:x::2"), kind=ModelKind.FULL, base="big", path="models/two"))
    AliasStore(database).create("support", "ft:big:x::1", by="key")
    AliasStore(database).create("gpt-4o-2024-08-06", "ft:big:x::2", by="key")
    database.close()
    base = tmp_path / "bases" / "big"
    assert find_model("big", settings) == find_model("gpt-3.5-turbo", settings) == FoundModel(name="big", folder=base)
    adapter = FoundModel(name="ft:big:x::1", folder=base, adapter=tmp_path / "models" / "one")
    assert find_model("ft:big:x::1", settings) == find_model("support", settings) == adapter
    full = FoundModel(name="ft:big:x::2", folder=tmp_path / "models" / "two")
    assert find_model("gpt-4o", settings) == find_model("gpt-4o-2024-08-06", settings) == full


def test_showing_a_row_loads_neither_torch_nor_a_database() -> None:
    code = (
        "import sys; from luthier.core.settings import Settings; from luthier.worker import show_row;"
        "show_row.find_model('gpt-4o', Settings()); print({'torch', 'sqlalchemy', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
