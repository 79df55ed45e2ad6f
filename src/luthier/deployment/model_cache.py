"""Keeps loaded bases and their adapters, least recently used out first, and never drops what is in use.

What it does: loads and verifies folders on demand, counts users by leases, attaches bases to the engine. What it does
not: generate, or know the database. All of it runs on the engine's thread. Called by ``host_requests.py``.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from luthier.chat.renderer import Renderer
from luthier.core.errors import NotFound, Unavailable
from luthier.core.generation import ModelTarget
from luthier.engine.engine import Engine
from luthier.engine.sequence import Lane
from luthier.models.checkpoint import folder_bytes, verify_folder
from luthier.models.language_model import LanguageModel

logger = logging.getLogger(__name__)

MAX_BASES = 4
MAX_ADAPTERS_PER_BASE = 64
MAX_RENDERERS = 16
_MANIFEST = "manifest.json"


@dataclass(slots=True, kw_only=True, eq=False)
class _Adapter:
    attached_as: str
    """Its name inside the model: public names may hold characters that module names may not."""
    bytes: int
    users: int = 0
    doomed: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class _Base:
    key: str
    model: LanguageModel
    renderer: Renderer
    max_length: int
    bytes: int
    users: int = 0
    doomed: bool = False
    names: set[str] = field(default_factory=set)
    """Public names that mean these weights without an adapter."""
    adapters: OrderedDict[tuple[str, str], _Adapter] = field(default_factory=OrderedDict)
    """By public name and revision."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lease:
    """A model that stays loaded until the lease is released."""

    lane: Lane
    model: LanguageModel
    renderer: Renderer
    max_length: int
    """Longest prompt plus answer, tokens."""
    bytes: int
    """What the target's own files weigh."""
    base: _Base
    adapter: _Adapter | None


class ModelCache:
    """The loaded models of the host."""

    def __init__(
        self,
        engine: Engine,
        *,
        load_model: Callable[[Path], LanguageModel],
        load_renderer: Callable[[Path], Renderer],
        max_context_tokens: int,
        pinned: frozenset[str] = frozenset(),
        max_bases: int = MAX_BASES,
        max_adapters: int = MAX_ADAPTERS_PER_BASE,
    ) -> None:
        self._engine = engine
        self._load_model = load_model
        self._load_renderer = load_renderer
        self._max_context_tokens = max_context_tokens
        self._pinned = pinned
        """Folders of bases that stay loaded: the default one, without which the server is not ready."""
        self._max_bases = max_bases
        self._max_adapters = max_adapters
        self._bases: OrderedDict[str, _Base] = OrderedDict()
        self._renderers: OrderedDict[str, Renderer] = OrderedDict()
        self._adapters_made = 0

    def acquire(self, target: ModelTarget) -> Lease:
        """The target's model, loaded if it is not yet; ``release`` must follow.

        Raises:
            NotFound: a folder is gone.
            InvalidRequest: a folder is damaged or of a kind that is refused.
            Unavailable: all places are in use.
        """
        base = self._base_of(target)
        adapter = self._adapter_of(base, target)
        base.users += 1
        if adapter is None:
            base.names.add(target.name)
        else:
            adapter.users += 1
        return Lease(
            lane=Lane(base.key, None if adapter is None else adapter.attached_as),
            model=base.model,
            renderer=base.renderer,
            max_length=base.max_length,
            bytes=base.bytes if adapter is None else adapter.bytes,
            base=base,
            adapter=adapter,
        )

    def release(self, lease: Lease) -> None:
        """Give a lease back, once."""
        lease.base.users -= 1
        if lease.adapter is not None:
            lease.adapter.users -= 1
        self._sweep()

    def renderer(self, target: ModelTarget) -> Renderer:
        """The renderer of a target, without its weights."""
        key = target.base_path
        if key not in self._renderers:
            folder = _existing(key, target)
            self._renderers[key] = self._load_renderer(folder)
            while len(self._renderers) > MAX_RENDERERS:
                self._renderers.popitem(last=False)
        self._renderers.move_to_end(key)
        return self._renderers[key]

    def unload(self, name: str) -> None:
        """Forget a name: its adapters, and the weights that only it meant. What is in use goes with its last user."""
        for base in self._bases.values():
            for (adapter_name, _), adapter in base.adapters.items():
                adapter.doomed = adapter.doomed or adapter_name == name
            if name in base.names:
                base.names.discard(name)
                base.doomed = not base.names and all(a.doomed for a in base.adapters.values())
        self._sweep()

    def loaded_names(self) -> tuple[str, ...]:
        """Public names that answer without loading anything."""
        names: set[str] = set()
        for base in self._bases.values():
            names.update(base.names)
            names.update(name for name, _ in base.adapters)
        return tuple(sorted(names))

    def _base_of(self, target: ModelTarget) -> _Base:
        key = target.base_path
        base = self._bases.get(key)
        if base is None:
            folder = _verified(key, target)
            self._make_room_for_base()
            model = self._load_model(folder)
            max_length = min(model.facts.max_length, self._max_context_tokens)
            base = _Base(key=key, model=model, renderer=self.renderer(target), max_length=max_length, bytes=folder_bytes(folder))
            self._engine.attach(key, model, max_length=max_length)
            self._bases[key] = base
            logger.info("loaded %s", target.name)
        base.doomed = False
        self._bases.move_to_end(key)
        return base

    def _adapter_of(self, base: _Base, target: ModelTarget) -> _Adapter | None:
        if target.adapter_path is None:
            return None
        key = (target.name, target.revision)
        adapter = base.adapters.get(key)
        if adapter is None:
            folder = _verified(target.adapter_path, target)
            self._make_room_for_adapter(base, target.name)
            self._adapters_made += 1
            attached_as = f"adapter_{self._adapters_made}"
            base.model.load_adapter(attached_as, folder)
            adapter = _Adapter(attached_as=attached_as, bytes=folder_bytes(folder))
            base.adapters[key] = adapter
            logger.info("loaded %s", target.name)
        adapter.doomed = False
        base.adapters.move_to_end(key)
        return adapter

    def _make_room_for_base(self) -> None:
        while len(self._bases) >= self._max_bases:
            idle = next((base for base in self._bases.values() if not base.users and base.key not in self._pinned), None)
            if idle is None:
                raise Unavailable("All places for models are in use. Please try again later.")
            self._drop_base(idle)

    def _make_room_for_adapter(self, base: _Base, name: str) -> None:
        for (other_name, _), other in base.adapters.items():
            # Another revision of the same name: whoever asks from now on means the new one.
            other.doomed = other.doomed or other_name == name
        self._sweep()
        while len(base.adapters) >= self._max_adapters:
            idle = next((key for key, adapter in base.adapters.items() if not adapter.users), None)
            if idle is None:
                raise Unavailable("All places for tuned models are in use. Please try again later.")
            base.model.remove_adapter(base.adapters.pop(idle).attached_as)

    def _sweep(self) -> None:
        for base in list(self._bases.values()):
            for key, adapter in list(base.adapters.items()):
                if adapter.doomed and not adapter.users:
                    base.model.remove_adapter(adapter.attached_as)
                    del base.adapters[key]
            if base.doomed and not base.users:
                self._drop_base(base)

    def _drop_base(self, base: _Base) -> None:
        self._engine.detach(base.key)
        del self._bases[base.key]
        self._renderers.pop(base.key, None)


def _existing(path: str, target: ModelTarget) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise NotFound(f"The model `{target.name}` does not exist or you do not have access to it.", code="model_not_found", param="model")
    return folder


def _verified(path: str, target: ModelTarget) -> Path:
    """The folder, its checksums compared where it has a manifest (folders that an operator added have none)."""
    folder = _existing(path, target)
    if (folder / _MANIFEST).is_file():
        verify_folder(folder)
    return folder
