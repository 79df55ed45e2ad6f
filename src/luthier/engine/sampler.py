"""Picks tokens from logits: greedy, or seeded sampling with temperature and top-p; log-probabilities on request.

Bias and penalties change the logits before anything else; the log-probabilities that are told stay the model's own. Each
sequence draws from a generator of its own, and every operation works row by row, so that a seed gives the same answer
whatever else is in the batch. What it does not: run models or end sequences. Called by ``engine.py``.

Axis letters: B sequences of a batch, N the sampled ones among them, V vocabulary.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from luthier.core.generation import SamplingParams

# Below this the largest logit wins in any case, and dividing by it would overflow.
GREEDY_BELOW = 1e-5
# A nucleus is nearly always found among so many best tokens; the whole vocabulary is sorted only when it is not.
NUCLEUS_FIRST_TRY = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chooser:
    """How one sequence picks: its parameters and its own source of randomness."""

    temperature: float
    top_p: float
    top_logprobs: int | None
    generator: torch.Generator | None
    """None when greedy."""
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    counts: dict[int, int] = field(default_factory=dict)
    """How often each token was picked so far; kept only when a penalty needs it."""

    @classmethod
    def of(cls, sampling: SamplingParams) -> "Chooser":
        """The chooser of one request; without a seed one is drawn."""
        generator = None
        if sampling.temperature >= GREEDY_BELOW:
            seed = secrets.randbits(63) if sampling.seed is None else sampling.seed & (2**63 - 1)
            generator = torch.Generator().manual_seed(seed)
        return cls(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_logprobs=sampling.top_logprobs,
            generator=generator,
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            logit_bias=sampling.logit_bias,
        )

    @property
    def has_penalty(self) -> bool:
        """True when earlier tokens of the answer change the next one's logits."""
        return bool(self.frequency_penalty or self.presence_penalty)

    def additions(self) -> dict[int, float]:
        """What is added to the logits of the next token, by token id."""
        added = dict(self.logit_bias)
        for token, count in self.counts.items():
            added[token] = added.get(token, 0.0) - self.frequency_penalty * count - self.presence_penalty
        return added

    def note(self, token: int) -> None:
        """Remember a picked token."""
        if self.has_penalty:
            self.counts[token] = self.counts.get(token, 0) + 1


@dataclass(frozen=True, slots=True)
class Pick:
    """A picked token. ``logprob`` (natural log, temperature 1) and ``top`` (id, logprob; best first) only if asked for."""

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def pick_tokens(logits_BV: torch.Tensor, choosers: Sequence[Chooser]) -> list[Pick | None]:
    """One token for each row; None for a row whose logits are not finite (a model that diverged).

    Args:
        logits_BV: float32 on the CPU.
        choosers: one per row.
    """
    finite_B = torch.isfinite(logits_BV.amax(dim=-1)).tolist()
    chosen_BV = _adjusted(logits_BV, choosers)
    ids_B = chosen_BV.argmax(dim=-1).tolist()
    drawn = [row for row, chooser in enumerate(choosers) if chooser.generator is not None and finite_B[row]]
    if drawn:
        whole = len(drawn) == len(choosers)
        sampled = _sample(chosen_BV if whole else chosen_BV[drawn], [choosers[row] for row in drawn])
        for row, token in zip(drawn, sampled, strict=True):
            ids_B[row] = token
    for row, chooser in enumerate(choosers):
        if finite_B[row]:
            chooser.note(ids_B[row])
    return [described(logits_BV[row], token, choosers[row].top_logprobs) if finite_B[row] else None for row, token in enumerate(ids_B)]


def _adjusted(logits_BV: torch.Tensor, choosers: Sequence[Chooser]) -> torch.Tensor:
    """The logits with bias and penalties: a copy where there are any."""
    rows = {row: added for row, chooser in enumerate(choosers) if (added := chooser.additions())}
    if not rows:
        return logits_BV
    logits_BV = logits_BV.clone()
    for row, added in rows.items():
        logits_BV[row, list(added)] += torch.tensor(list(added.values()), dtype=logits_BV.dtype)
    return logits_BV


def _sample(logits_NV: torch.Tensor, choosers: Sequence[Chooser]) -> list[int]:
    temperature_N1 = torch.tensor([[c.temperature] for c in choosers], dtype=torch.float64)
    probs_NV = torch.softmax(logits_NV.double() / temperature_N1, dim=-1)
    return [_draw(probs_V, chooser) for probs_V, chooser in zip(probs_NV, choosers, strict=True)]


def _draw(probs_V: torch.Tensor, chooser: Chooser) -> int:
    # Inverse of the cumulative distribution with one uniform number: unlike torch.multinomial it uses one draw per
    # token, and a last-bit change of the logits (another batch size) changes the token only at a boundary.
    uniform = torch.rand((), dtype=torch.float64, generator=chooser.generator)
    if chooser.top_p < 1.0:
        kept_K, ids_K = _nucleus(probs_V, chooser.top_p)
        return int(ids_K[_invert(kept_K, uniform)])
    return _invert(probs_V, uniform)


def _nucleus(probs_V: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The fewest best tokens whose probabilities reach ``top_p``, at least one."""
    size = probs_V.shape[-1]
    probs_K, ids_K = torch.topk(probs_V, min(size, NUCLEUS_FIRST_TRY))
    before_K = probs_K.cumsum(dim=-1) - probs_K
    if float(before_K[-1]) < top_p and probs_K.shape[-1] < size:
        probs_K, ids_K = torch.sort(probs_V, descending=True, stable=True)
        before_K = probs_K.cumsum(dim=-1) - probs_K
    keep = max(1, int((before_K < top_p).sum()))
    return probs_K[:keep], ids_K[:keep]


def _invert(probs_K: torch.Tensor, uniform: torch.Tensor) -> int:
    total_K = probs_K.cumsum(dim=-1)
    return min(int(torch.searchsorted(total_K, uniform * total_K[-1], right=True)), probs_K.shape[-1] - 1)


def described(logits_V: torch.Tensor, token: int, top_logprobs: int | None) -> Pick:
    """A token of these logits, with its log-probability and the best alternatives when they were asked for."""
    if top_logprobs is None:
        return Pick(token)
    logprobs_V = torch.log_softmax(logits_V.double(), dim=-1)
    best = torch.topk(logprobs_V, min(top_logprobs, logprobs_V.shape[-1]))
    top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return Pick(token, float(logprobs_V[token]), top)
