"""A tiny deterministic language model for engine tests: every logit depends on the whole prefix, so that a mixed-up slot,
a lost token or a wrong adapter changes the answer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from luthier.core.errors import InvalidRequest
from luthier.core.generation import CalledTool
from luthier.models.adapter_form import PLAIN, AdapterForm
from luthier.models.facts import ModelFacts
from luthier.models.language_model import Cache, LanguageModel

NUM_STATES = 997


class FakeCache(Cache):
    """The state and length of each slot."""

    def __init__(self, num_slots: int, max_length: int) -> None:
        self.num_slots = num_slots
        self.max_length = max_length
        self.states: dict[int, int] = {}
        self.lengths: dict[int, int] = {}

    def length(self, slot: int) -> int:
        """Tokens in a slot."""
        return self.lengths.get(slot, 0)


class FakeModel(LanguageModel):
    """A hash of the prefix chooses a row of a random table."""

    def __init__(self, *, vocab_size: int = 50, max_length: int = 64, seed: int = 0, hidden_size: int = 8) -> None:
        self.facts = ModelFacts(
            family="fake",
            num_parameters=NUM_STATES * vocab_size,
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            num_layers=1,
            max_length=max_length,
            dtype="float32",
            revision=f"fake-{seed}",
        )
        self.folder = Path("fake")
        self.module = nn.Identity()
        self.table = torch.randn((NUM_STATES, vocab_size), generator=torch.Generator().manual_seed(seed))
        self.adapters: dict[str, int] = {}
        self.active = 0
        self.decoded_batches: list[int] = []
        self.caches: list[FakeCache] = []
        self.break_next_decode = False

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def _next(self, state: int, token: int) -> int:
        return (state * 31 + int(token) + 7 * self.active + 1) % NUM_STATES

    def logits_at(self, ids_BT: Tensor, lengths_B: Tensor, rows_N: Tensor, columns_N: Tensor) -> Tensor:
        wanted = []
        for row, column in zip(rows_N.tolist(), columns_N.tolist(), strict=True):
            if not 0 <= column < int(lengths_B[row]):
                raise IndexError("column outside of the row")
            state = 0
            for token in ids_BT[row, : column + 1].tolist():
                state = self._next(state, token)
            wanted.append(state)
        return self.table[wanted]

    def new_cache(self, num_slots: int, max_length: int) -> FakeCache:
        self.caches.append(FakeCache(num_slots, max_length))
        return self.caches[-1]

    def prefill(self, cache: Cache, slot: int, ids_T: Sequence[int] | Tensor) -> Tensor:
        assert isinstance(cache, FakeCache)
        assert 0 <= slot < cache.num_slots
        state = 0
        for token in ids_T:
            state = self._next(state, int(token))
        cache.states[slot], cache.lengths[slot] = state, len(ids_T)
        return self.table[state]

    def decode(self, cache: Cache, slots_B: Sequence[int], ids_B: Sequence[int] | Tensor) -> Tensor:
        assert isinstance(cache, FakeCache)
        assert len(set(slots_B)) == len(slots_B)
        if self.break_next_decode:
            self.break_next_decode = False
            raise RuntimeError("out of memory at 0xdeadbeef")
        self.decoded_batches.append(len(slots_B))
        for slot, token in zip(slots_B, ids_B, strict=True):
            cache.states[slot] = self._next(cache.states[slot], int(token))
            cache.lengths[slot] += 1
            if cache.lengths[slot] > cache.max_length:
                raise InvalidRequest("slot is full")
        return self.table[[cache.states[s] for s in slots_B]]

    def free(self, cache: Cache, slot: int) -> None:
        assert isinstance(cache, FakeCache)
        cache.states.pop(slot, None)
        cache.lengths.pop(slot, None)

    def add_adapter(self, name: str, *, rank: int, alpha: float, seed: int, form: AdapterForm = PLAIN) -> None:
        if name in self.adapters:
            raise InvalidRequest("taken")
        self.adapters[name] = seed + 1

    def load_adapter(self, name: str, folder: Path) -> None:
        if not (folder / "adapter_config.json").is_file():
            raise InvalidRequest("adapter_config.json is missing")
        self.add_adapter(name, rank=1, alpha=1.0, seed=len(folder.name))

    def save_adapter(self, name: str, folder: Path, *, base_name: str) -> None:
        raise InvalidRequest("not for tests")

    def remove_adapter(self, name: str) -> None:
        self.adapters.pop(name, None)

    @contextmanager
    def use_adapter(self, name: str | None) -> Iterator[None]:
        before = self.active
        self.active = 0 if name is None else self.adapters[name]
        try:
            yield
        finally:
            self.active = before

    def adapter_parameters(self, name: str) -> list[nn.Parameter]:
        return []

    def all_parameters(self) -> list[nn.Parameter]:
        return []

    def save_full(self, folder: Path) -> None:
        raise InvalidRequest("not for tests")


class FakeText:
    """Each token is ``<id>``; the token ``stop_at`` is a stop string."""

    def __init__(self, *, stop_at: int | None = None, held_back: str = "") -> None:
        self.stop_at = stop_at
        self.held_back = held_back
        self.stopped = False
        self.tool_calls: tuple[CalledTool, ...] = ()

    def push(self, token_id: int) -> str:
        if token_id == self.stop_at:
            self.stopped = True
            return ""
        return f"<{token_id}>"

    def finish(self) -> str:
        held, self.held_back = self.held_back, ""
        return held


class FakeNames:
    """Names tokens by their id."""

    def token_text(self, token_id: int, /) -> str:
        return f"t{token_id}"

    def token_bytes(self, token_id: int, /) -> bytes:
        return f"t{token_id}".encode()
