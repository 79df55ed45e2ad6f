"""Greedy answers with everything that a prediction trace tells of each step: probability, rank, entropy, alternatives.

What it does: walks several models or adapters forward token by token, those of one model in one batch, so that base and tuned answer side
by side; scores a given answer. What it does not: batch with the engine's own sequences (it holds a small cache of its own), render, make
text. Called by ``deployment/tracing.py`` on the engine's thread, one piece between two decode steps.

Axis letters: V vocabulary, T tokens, N scored places.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from luthier.core.errors import Unavailable
from luthier.core.prediction import ALTERNATIVES
from luthier.models.language_model import Cache, LanguageModel
from luthier.models.probe import rows_at_once


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One place of an answer; logarithms are natural, at temperature 1."""

    id: int
    logprob: float
    rank: int
    """1 for the most probable token."""
    entropy: float
    """Of the whole distribution, nats."""
    top: tuple[tuple[int, float], ...]
    """(id, logprob), best first."""
    forced: bool


@dataclass(slots=True, kw_only=True, eq=False)
class Walk:
    """One model's way through its answer."""

    model: LanguageModel
    adapter: str | None
    prompt_ids: tuple[int, ...]
    forced: tuple[int, ...]
    """Ids that the answer begins with, whatever the model finds of them."""
    max_tokens: int
    stop_ids: Collection[int]
    steps: list[Step] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """True when the model ended its answer itself."""
        return bool(self.steps) and self.steps[-1].id in self.stop_ids

    @property
    def done(self) -> bool:
        """True when no token follows."""
        return self.ended or len(self.steps) >= self.max_tokens

    @property
    def ids(self) -> tuple[int, ...]:
        """The answer's ids, the end token included."""
        return tuple(step.id for step in self.steps)

    def take(self, logits_V: Tensor) -> None:
        """Choose the next token and write its figures down.

        Raises:
            Unavailable: the logits are not finite.
        """
        at = len(self.steps)
        forced = self.forced[at] if at < len(self.forced) else None
        self.steps.append(measured(logits_V, forced))


def measured(logits_V: Tensor, forced: int | None = None) -> Step:
    """The figures of one place: of the best token, or of the forced one.

    Raises:
        Unavailable: the logits are not finite.
    """
    logprobs_V = torch.log_softmax(logits_V.double().cpu(), dim=-1)
    if torch.isnan(logprobs_V).any():
        raise Unavailable("The model answers with numbers that are not finite: its weights are damaged or diverged in training.")
    token = int(logits_V.argmax()) if forced is None else forced
    best = torch.topk(logprobs_V, min(ALTERNATIVES, logprobs_V.shape[-1]))
    top = tuple((i, p) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True) if p > float("-inf"))
    entropy = -float(torch.nan_to_num(logprobs_V.exp() * logprobs_V, nan=0.0).sum())
    rank = 1 + int((logprobs_V > logprobs_V[token]).sum())
    return Step(id=token, logprob=float(logprobs_V[token]), rank=rank, entropy=max(0.0, entropy), top=top, forced=forced is not None)


def walked(walks: Sequence[Walk]) -> Iterator[None]:
    """Take all walks to their ends, a token of each per piece.

    Walks of one model share one call per token, where the model can. Prompts are read one after the other: they are many rows already.
    """
    groups = [_Group(model, [walk for walk in walks if walk.model is model]) for model in dict.fromkeys(walk.model for walk in walks)]
    for group in groups:
        group.read()
    yield
    while not all(walk.done for walk in walks):
        for group in groups:
            group.go_on()
        yield
    for group in groups:
        group.free()


class _Group:
    """Walks of one model, each with a slot of one cache."""

    def __init__(self, model: LanguageModel, walks: Sequence[Walk]) -> None:
        self._model, self._walks = model, walks
        length = max(len(walk.prompt_ids) for walk in walks) + max(walk.max_tokens for walk in walks)
        self._cache: Cache = model.new_cache(len(walks), min(length, model.facts.max_length))

    @torch.inference_mode()
    def read(self) -> None:
        """All prompts, and the first token of each answer."""
        for slot, walk in enumerate(self._walks):
            with self._model.use_adapter(walk.adapter):
                walk.take(self._model.prefill(self._cache, slot, walk.prompt_ids))

    @torch.inference_mode()
    def go_on(self) -> None:
        """The next token of each.

        A walk that is done stays in the batch: rounding depends on a batch's size, and the figures of the one would depend on when the
        other ends.
        """
        if all(walk.done for walk in self._walks):
            return
        cache = self._cache
        rows = [(slot, walk) for slot, walk in enumerate(self._walks) if not walk.done or cache.length(slot) < cache.max_length]
        slots, ids, adapters = zip(*((slot, walk.steps[-1].id, walk.adapter) for slot, walk in rows), strict=True)
        for (_, walk), logits_V in zip(rows, self._model.decode_apart(cache, slots, ids, adapters), strict=True):
            if not walk.done:
                walk.take(logits_V)

    def free(self) -> None:
        """Give the cache back."""
        for slot in range(len(self._walks)):
            self._model.free(self._cache, slot)


def scored(model: LanguageModel, adapter: str | None, prompt_ids: Sequence[int], answer_ids: Sequence[int]) -> Iterator[list[float]]:
    """Pieces of the log-probabilities of a given answer's tokens, in order."""
    ids_1T = torch.tensor([[*prompt_ids, *answer_ids]])
    start, size = len(prompt_ids) - 1, rows_at_once(model.facts.vocab_size)
    for at in range(0, len(answer_ids), size):
        columns_N = torch.arange(start + at, start + min(at + size, len(answer_ids)))
        with torch.inference_mode(), model.use_adapter(adapter):
            logits_NV = model.logits_at(ids_1T, torch.tensor([ids_1T.shape[1]]), torch.zeros_like(columns_N), columns_N)
            logprobs_NV = torch.log_softmax(logits_NV.double().cpu(), dim=-1)
        yield logprobs_NV.gather(1, ids_1T[0, columns_N + 1][:, None])[:, 0].tolist()
