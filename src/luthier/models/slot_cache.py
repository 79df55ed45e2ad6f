"""Keys and values of running sequences, one fixed row per slot.

What it does: holds (layers, slots, kv heads, max_length, head_dim) once for keys and once for values, and how full each slot is.
What it does not: share prefixes or page. Called by ``decoder.py``; made through ``LanguageModel.new_cache``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from luthier.core.errors import InvalidRequest
from luthier.models.decoder_config import DecoderConfig
from luthier.models.language_model import Cache
from luthier.models.together import Stacked


class SlotCache(Cache):
    """Static memory; pages of it that were never written cost nothing."""

    def __init__(self, config: DecoderConfig, num_slots: int, max_length: int, *, dtype: torch.dtype, device: torch.device) -> None:
        shape = (config.num_layers, num_slots, config.num_kv_heads, max_length, config.head_dim)
        self.num_slots = num_slots
        self.max_length = max_length
        # Zeros, not garbage: a masked position has weight 0, and 0 times NaN is NaN.
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self._lengths = [0] * num_slots
        self.stacked = Stacked()
        """What a step over several adapters makes of them, which lives no longer than the sequences."""

    def length(self, slot: int) -> int:
        """Tokens in the slot."""
        return self._lengths[slot]

    def set_length(self, slot: int, length: int) -> None:
        """Say how many of the slot's positions hold tokens."""
        self._lengths[slot] = length

    def step(self, slots_B: Sequence[int]) -> "DecodeStep":
        """Reserve the next position of each slot.

        Raises:
            InvalidRequest: a slot is full or given twice.
        """
        if len(set(slots_B)) != len(slots_B):
            raise InvalidRequest("A slot can take one token at a time.")
        positions = [self._lengths[s] for s in slots_B]
        if max(positions) >= self.max_length:
            raise InvalidRequest(f"The sequence has reached the limit of {self.max_length} tokens.")
        for slot, position in zip(slots_B, positions, strict=True):
            self._lengths[slot] = position + 1
        return DecodeStep(self, list(slots_B), positions)


class DecodeStep:
    """One decode step's view of the cache: where the new keys go, and the mask over the old ones."""

    def __init__(self, cache: SlotCache, slots: list[int], positions: list[int]) -> None:
        self._cache = cache
        self._slots = slots
        self._longest = max(positions) + 1
        device = cache.keys.device
        self.positions_B = torch.tensor(positions, device=device)
        self._first = slots[0] if slots == list(range(slots[0], slots[0] + len(slots))) else None
        self._slots_B = torch.tensor(slots, device=device)
        self.mask_B11L: Tensor | None = None
        """Additive mask; None when all slots are equally long."""
        if min(positions) != max(positions):
            late = torch.arange(self._longest, device=device) > self.positions_B[:, None]
            mask = torch.zeros(late.shape, dtype=cache.keys.dtype, device=device).masked_fill_(late, float("-inf"))
            self.mask_B11L = mask[:, None, None, :]

    def append(self, layer: int, keys_BHD: Tensor, values_BHD: Tensor) -> tuple[Tensor, Tensor]:
        """Store one position per slot; returns keys and values (B, H, L, D) up to the longest slot's end."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        if len(self._slots) == 1:
            keys[self._slots[0], :, self._longest - 1] = keys_BHD[0]
            values[self._slots[0], :, self._longest - 1] = values_BHD[0]
        else:
            keys[self._slots_B, :, self.positions_B] = keys_BHD
            values[self._slots_B, :, self.positions_B] = values_BHD
        if self._first is not None:
            rows = slice(self._first, self._first + len(self._slots))
            return keys[rows, :, : self._longest], values[rows, :, : self._longest]
        return keys[:, :, : self._longest].index_select(0, self._slots_B), values[:, :, : self._longest].index_select(0, self._slots_B)
