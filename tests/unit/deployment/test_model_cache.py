from pathlib import Path
from typing import cast

import pytest

from luthier.chat.renderer import Renderer
from luthier.core.errors import InvalidRequest, NotFound, Unavailable
from luthier.core.generation import ModelTarget
from luthier.deployment.model_cache import ModelCache
from luthier.engine.engine import Engine
from luthier.engine.runner import Runner
from luthier.engine.scheduler import Scheduler
from luthier.models.checkpoint import publish_folder
from luthier.models.language_model import LanguageModel
from tests.support.fake_model import FakeModel


class Shelf:
    """A cache over fake models whose loads are noted."""

    def __init__(self, root: Path, *, max_bases: int = 2, max_adapters: int = 2, pinned: str | None = None) -> None:
        self.root = root
        self.loads: list[str] = []
        self.models: dict[str, FakeModel] = {}
        self.cache = ModelCache(
            Engine(Runner(), Scheduler()),
            load_model=self._load,
            load_renderer=lambda folder: cast(Renderer, object()),
            max_context_tokens=48,
            pinned=frozenset({str(root / pinned)} if pinned else ()),
            max_bases=max_bases,
            max_adapters=max_adapters,
        )

    def _load(self, folder: Path) -> LanguageModel:
        self.loads.append(folder.name)
        self.models[folder.name] = FakeModel()
        return self.models[folder.name]

    def base(self, name: str) -> ModelTarget:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        return ModelTarget(name=name, base_path=str(folder))

    def adapter(self, name: str, base: str = "base", revision: str = "1") -> ModelTarget:
        folder = self.root / f"{name}-{revision}"
        folder.mkdir(exist_ok=True)
        (folder / "adapter_config.json").write_text("{}")
        return ModelTarget(name=name, base_path=self.base(base).base_path, adapter_path=str(folder), revision=revision)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_a_base_is_loaded_once_for_itself_and_its_adapters(shelf: Shelf) -> None:
    leases = [shelf.cache.acquire(t) for t in (shelf.base("base"), shelf.adapter("x"), shelf.adapter("x"), shelf.base("base"))]
    assert shelf.loads == ["base"]
    assert [lease.lane.adapter is None for lease in leases] == [True, False, False, True]
    assert leases[1].lane == leases[2].lane
    assert len(shelf.models["base"].adapters) == 1
    assert shelf.cache.loaded_names() == ("base", "x")


def test_the_context_is_the_smaller_of_model_and_setting(shelf: Shelf) -> None:
    assert shelf.cache.acquire(shelf.base("base")).max_length == 48


def test_the_least_recently_used_base_goes_first(shelf: Shelf) -> None:
    for name in ("a", "b", "a", "c"):
        shelf.cache.release(shelf.cache.acquire(shelf.base(name)))
    assert shelf.cache.loaded_names() == ("a", "c")


def test_the_default_base_stays_whatever_comes(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, pinned="a")
    for name in ("a", "b", "c", "d"):
        shelf.cache.release(shelf.cache.acquire(shelf.base(name)))
    assert shelf.cache.loaded_names() == ("a", "d")


def test_what_is_in_use_is_never_dropped(shelf: Shelf) -> None:
    kept = shelf.cache.acquire(shelf.base("a"))
    for name in ("b", "c", "d"):
        shelf.cache.release(shelf.cache.acquire(shelf.base(name)))
    assert shelf.cache.loaded_names() == ("a", "d")
    shelf.cache.acquire(shelf.base("d"))
    with pytest.raises(Unavailable):
        shelf.cache.acquire(shelf.base("e"))
    shelf.cache.release(kept)
    shelf.cache.acquire(shelf.base("e"))
    assert shelf.cache.loaded_names() == ("d", "e")


def test_adapters_have_places_of_their_own(shelf: Shelf) -> None:
    held = shelf.cache.acquire(shelf.adapter("x"))
    shelf.cache.release(shelf.cache.acquire(shelf.adapter("y")))
    shelf.cache.acquire(shelf.adapter("z"))
    assert shelf.cache.loaded_names() == ("x", "z")
    assert held.lane.adapter in shelf.models["base"].adapters
    with pytest.raises(Unavailable):
        shelf.cache.acquire(shelf.adapter("w"))


def test_a_new_revision_is_loaded_anew_and_the_old_one_goes_with_its_last_user(shelf: Shelf) -> None:
    old = shelf.cache.acquire(shelf.adapter("x", revision="1"))
    new = shelf.cache.acquire(shelf.adapter("x", revision="2"))
    assert old.lane != new.lane
    assert len(shelf.models["base"].adapters) == 2
    shelf.cache.release(old)
    assert list(shelf.models["base"].adapters) == [new.lane.adapter]


def test_unload_forgets_an_adapter_at_once_or_after_its_last_user(shelf: Shelf) -> None:
    shelf.cache.release(shelf.cache.acquire(shelf.adapter("x")))
    held = shelf.cache.acquire(shelf.adapter("y"))
    shelf.cache.unload("x")
    shelf.cache.unload("y")
    assert list(shelf.models["base"].adapters) == [held.lane.adapter]
    shelf.cache.release(held)
    assert shelf.models["base"].adapters == {}


def test_unload_forgets_complete_weights_but_not_a_base_that_adapters_need(shelf: Shelf) -> None:
    for target in (shelf.base("full"), shelf.base("base"), shelf.adapter("x")):
        shelf.cache.release(shelf.cache.acquire(target))
    shelf.cache.unload("full")
    shelf.cache.unload("base")
    assert shelf.cache.loaded_names() == ("x",)
    shelf.cache.release(shelf.cache.acquire(shelf.adapter("x")))
    assert shelf.loads == ["full", "base"]


def test_a_missing_folder_is_a_missing_model_and_its_path_is_not_told(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        shelf.cache.acquire(ModelTarget(name="gone", base_path=str(tmp_path / "nowhere")))
    assert caught.value.code == "model_not_found"
    assert str(tmp_path) not in caught.value.message


def test_a_folder_whose_bytes_changed_is_refused(shelf: Shelf) -> None:
    def write(folder: Path) -> None:
        (folder / "weights").write_bytes(b"good")

    publish_folder(shelf.root / "published", write, {})
    shelf.cache.release(shelf.cache.acquire(shelf.base("published")))
    shelf.cache.unload("published")
    (shelf.root / "published" / "weights").write_bytes(b"evil")
    with pytest.raises(InvalidRequest):
        shelf.cache.acquire(shelf.base("published"))
    assert shelf.loads == ["published"]


def test_a_failed_adapter_leaves_nothing_in_use(shelf: Shelf) -> None:
    broken = shelf.adapter("x")
    (Path(broken.adapter_path or "") / "adapter_config.json").unlink()
    with pytest.raises(InvalidRequest):
        shelf.cache.acquire(broken)
    for name in ("b", "c"):
        shelf.cache.release(shelf.cache.acquire(shelf.base(name)))
    assert shelf.cache.loaded_names() == ("b", "c")
