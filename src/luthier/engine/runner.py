"""Runs models: reads prompts and decodes batches. Decides nothing.

What it does: owns one slot cache per model and calls ``models.LanguageModel``. What it does not: choose sequences, pick
tokens, load weights. Called by ``engine.py`` on its thread.

Axis letters: T tokens of a prompt, B sequences of a batch, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from luthier.engine.sequence import Lane
from luthier.models.language_model import Cache, LanguageModel

MAX_SLOTS = 32
# Upper bound of one model's cache; larger models get fewer slots.
MAX_CACHE_BYTES = 2 * 1024**3
_FLOAT_BYTES = 4


@dataclass(slots=True)
class _Resident:
    model: LanguageModel
    num_slots: int
    max_length: int
    cache: Cache | None = None


def slots_for(model: LanguageModel, max_length: int) -> int:
    """How many sequences of ``max_length`` tokens a model may hold at once: 1 to ``MAX_SLOTS``."""
    facts = model.facts
    # Keys and values of every layer at full width: an upper bound, grouped-query models need less.
    per_slot = 2 * facts.num_layers * facts.hidden_size * max_length * _FLOAT_BYTES
    return max(1, min(MAX_SLOTS, MAX_CACHE_BYTES // max(1, per_slot)))


def _cache_of(resident: _Resident) -> Cache:
    if resident.cache is None:
        resident.cache = resident.model.new_cache(resident.num_slots, resident.max_length)
    return resident.cache


class Runner:
    """The models that can run, by key."""

    def __init__(self) -> None:
        self._residents: dict[str, _Resident] = {}

    def attach(self, key: str, model: LanguageModel, *, num_slots: int, max_length: int) -> None:
        """Make a model runnable. Its cache is made with its first prompt."""
        self._residents[key] = _Resident(model, num_slots, max_length)

    def detach(self, key: str) -> None:
        """Forget a model and its cache."""
        del self._residents[key]

    @torch.inference_mode()
    def prefill(self, lane: Lane, slot: int, prompt_ids: Sequence[int]) -> torch.Tensor:
        """Read a prompt into a free slot.

        Returns:
            logits_1V of the token after the prompt, float32 on the CPU.
        """
        resident = self._residents[lane.model]
        with resident.model.use_adapter(lane.adapter):
            logits_V = resident.model.prefill(_cache_of(resident), slot, prompt_ids)
        return logits_V.float().cpu()[None]

    @torch.inference_mode()
    def decode(self, lane: Lane, slots: Sequence[int], ids: Sequence[int]) -> torch.Tensor:
        """Feed one token to each of a lane's slots.

        Returns:
            logits_BV of the tokens after them, float32 on the CPU.
        """
        resident = self._residents[lane.model]
        with resident.model.use_adapter(lane.adapter):
            logits_BV = resident.model.decode(_cache_of(resident), slots, ids)
        return logits_BV.float().cpu()

    def free(self, lane: Lane, slot: int) -> None:
        """Give a slot's cache back."""
        resident = self._residents[lane.model]
        if resident.cache is not None:
            resident.model.free(resident.cache, slot)
