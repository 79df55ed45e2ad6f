"""A model with one adapter as a policy: batched answers, log-probabilities of given answers, steps on the adapter.

What it does: the few parts that ``preference.py`` and ``reinforcement.py`` share. What it does not: define a loss, a reward or a metric,
save an adapter. It is made for the evaluation of a small base model on a CPU: a batch is one forward, whatever its size.

Axis letters: B rows of a batch, T tokens of a row, N answer tokens of all rows, V vocabulary.
"""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from luthier.chat.renderer import Renderer
from luthier.core.conversation import Role, conversation_of
from luthier.models.language_model import Cache, LanguageModel
from luthier.models.load import load_model
from luthier.models.slot_cache import SlotCache
from luthier.training.optimizer import take_step
from pretraining.errors import PretrainingError

ADAPTER = "policy"
RANK, ALPHA = 16, 32.0
"""The product's own defaults for an adapter."""
MAX_GRAD_NORM = 1.0
WARMUP_SHARE = 0.06
SLOTS = 64
"""Answers that are decoded side by side."""
_END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A prompt and an answer to it, as token ids; the answer's end token is part of it where it has one."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


class Policy:
    """The base with a fresh adapter, which is active only inside ``tuned()``."""

    def __init__(self, model: LanguageModel, renderer: Renderer, *, seed: int) -> None:
        """Attach the adapter. ``seed`` decides its first numbers; they leave the model's function as it is."""
        self.model, self.renderer = model, renderer
        end = renderer.tokenizer.id_of(_END_OF_TEXT)
        self.stop_ids: frozenset[int] = renderer.stop_ids | ({end} if end is not None else frozenset())
        """Ids that end an answer: the model's own, and the mark between documents."""
        model.add_adapter(ADAPTER, rank=RANK, alpha=ALPHA, seed=seed)

    @classmethod
    def load(cls, folder: Path, *, seed: int) -> "Policy":
        """From a model folder. Raises InvalidRequest when nothing here can read it."""
        return cls(load_model(folder), Renderer.load(folder), seed=seed)

    def tuned(self) -> AbstractContextManager[None]:
        """A block in which the adapter is active; outside of it the base answers, bit for bit."""
        return self.model.use_adapter(ADAPTER)

    def prompt(self, messages: Sequence[dict[str, Any]]) -> tuple[int, ...]:
        """The ids that the model reads before it answers."""
        return tuple(self.renderer.prompt(conversation_of(messages)).ids_T.tolist())

    def exchange(self, messages: Sequence[dict[str, Any]], answer: str) -> Exchange:
        """A given answer after these messages, ended as the model's template ends it."""
        asked = [{**m, "weight": 0} if m["role"] == Role.ASSISTANT.value else m for m in messages]
        rendered = self.renderer.example(conversation_of([*asked, {"role": Role.ASSISTANT.value, "content": answer}]))
        answer_N = np.flatnonzero(rendered.weights_T)
        if not len(answer_N):
            raise PretrainingError("An answer without tokens cannot be trained on; give it a text.")
        ids = rendered.ids_T.tolist()
        return Exchange(tuple(ids[: answer_N[0]]), tuple(ids[answer_N[0] : answer_N[-1] + 1]))

    def text(self, answer: Sequence[int]) -> str:
        """What a user would read: the answer's text without its end token."""
        ended = bool(answer) and answer[-1] in self.stop_ids
        return self.renderer.tokenizer.decode(list(answer[:-1] if ended else answer))

    def answer(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, generator: torch.Generator | None = None
    ) -> list[tuple[int, ...]]:
        """See ``generate``; ``stop_ids`` end an answer."""
        return generate(self.model, prompts, self.stop_ids, max_new_tokens=max_new_tokens, generator=generator)


class Tuner:
    """AdamW on the policy's adapter: a short warm-up, then a linear fall to zero, as the product trains."""

    def __init__(self, model: LanguageModel, *, rate: float, total_steps: int) -> None:
        """Start with fresh moments.

        Args:
            model: with the adapter ``ADAPTER``.
            rate: peak learning rate.
            total_steps: after so many the rate is zero.
        """
        self._parameters: list[nn.Parameter] = model.adapter_parameters(ADAPTER)
        self._optimizer = torch.optim.AdamW(self._parameters, lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
        self._rate, self._total = rate, max(1, total_steps)
        self._warmup = max(1, round(self._total * WARMUP_SHARE))
        self._step = 0

    def step(self, loss: Tensor) -> None:
        """One update for a scalar loss. Raises PretrainingError when the loss or its gradient is not finite."""
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._parameters, MAX_GRAD_NORM)
        if not (torch.isfinite(loss.detach()) and torch.isfinite(norm)):
            raise PretrainingError(f"The loss or its gradient stopped being finite at step {self._step + 1}; use a smaller learning rate.")
        left = (self._total - self._step) / max(1, self._total - self._warmup)
        self._step += 1
        take_step(self._optimizer, self._parameters, self._rate * max(0.0, min(self._step / self._warmup, left)))


def answer_logprobs(model: LanguageModel, exchanges: Sequence[Exchange]) -> tuple[Tensor, Tensor]:
    """Log-probability (nats) of every answer token under the model as it is active now, with gradients where they are enabled.

    Returns:
        (N,) float32 in the order of rows and then of tokens, and the (N,) int64 row of each.
    """
    lengths = [len(e.prompt) + len(e.answer) for e in exchanges]
    ids_BT = torch.zeros(len(exchanges), max(lengths), dtype=torch.int64)
    for row, e in enumerate(exchanges):
        ids_BT[row, : lengths[row]] = torch.tensor([*e.prompt, *e.answer])
    rows_N = torch.repeat_interleave(torch.tensor([len(e.answer) for e in exchanges]))
    columns_N = torch.cat([torch.arange(len(e.prompt), length) for e, length in zip(exchanges, lengths, strict=True)])
    logits_NV = model.logits_at(ids_BT, torch.tensor(lengths), rows_N, columns_N - 1)
    return -functional.cross_entropy(logits_NV, ids_BT[rows_N, columns_N], reduction="none"), rows_N


def total_logprobs(model: LanguageModel, exchanges: Sequence[Exchange]) -> Tensor:
    """(B,) float32: log-probability (nats) of each whole answer, with gradients where they are enabled."""
    logprobs_N, rows_N = answer_logprobs(model, exchanges)
    return torch.zeros(len(exchanges)).index_add(0, rows_N, logprobs_N)


@torch.no_grad()
def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    stop_ids: Collection[int],
    *,
    max_new_tokens: int,
    generator: torch.Generator | None = None,
) -> list[tuple[int, ...]]:
    """Answers of the model as it is active now, ``SLOTS`` at a time.

    Args:
        model: also decides which adapter answers.
        prompts: token ids; each with room for ``max_new_tokens`` more.
        stop_ids: tokens that end an answer.
        max_new_tokens: longest answer; one that is cut has no end token.
        generator: for sampling at temperature 1 from the whole distribution; None is greedy.

    Returns:
        The new ids of each prompt, with the end token where one came.

    Raises:
        InvalidRequest: prompt and answer together are longer than the model's limit.
    """
    answers: list[tuple[int, ...]] = []
    longest = max(map(len, prompts), default=0) + max_new_tokens
    cache = model.new_cache(min(SLOTS, len(prompts)), longest) if prompts else None
    for start in range(0, len(prompts), SLOTS):
        assert cache is not None
        group = prompts[start : start + SLOTS]
        logits_BV = _prefill(model, cache, group)
        new: list[list[int]] = [[] for _ in group]
        running = list(range(len(group)))
        while running:
            picked = _pick(logits_BV, generator)
            for slot, token in zip(running, picked, strict=True):
                new[slot].append(token)
            kept = [(s, t) for s, t in zip(running, picked, strict=True) if t not in stop_ids and len(new[s]) < max_new_tokens]
            running = [slot for slot, _ in kept]
            if running:
                logits_BV = model.decode(cache, running, [token for _, token in kept])
        answers.extend(map(tuple, new))
    return answers


def _prefill(model: LanguageModel, cache: Cache, prompts: Sequence[Sequence[int]]) -> Tensor:
    """(B, V) logits after each prompt; slot i holds prompt i. A prompt that comes again is copied where the cache lets it."""
    first: dict[tuple[int, ...], int] = {}
    logits: list[Tensor] = []
    for slot, ids in enumerate(prompts):
        origin = first.setdefault(tuple(ids), slot)
        if origin != slot and isinstance(cache, SlotCache):
            length = len(ids)
            cache.keys[:, slot, :, :length] = cache.keys[:, origin, :, :length]
            cache.values[:, slot, :, :length] = cache.values[:, origin, :, :length]
            cache.set_length(slot, length)
            logits.append(logits[origin])
        else:
            logits.append(model.prefill(cache, slot, ids))
    return torch.stack(logits)


def _pick(logits_BV: Tensor, generator: torch.Generator | None) -> list[int]:
    if generator is None:
        return logits_BV.argmax(dim=-1).tolist()
    return torch.multinomial(torch.softmax(logits_BV.float(), dim=-1), 1, generator=generator)[:, 0].tolist()
