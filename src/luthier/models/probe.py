"""What one look into a model's forward pass tells, and the small sums that every architecture shares.

What it does: holds the figures of the logit lens, of the residual's updates and of one block's attention; reduces logits to their best
token; compares an adapter with the matrix that it changes. What it does not: run a model (``decoder_probe.py`` and
``transformers_probe.py`` do). Called by them, by ``decoder.py`` and ``transformers_model.py``, and by ``engine/prediction.py``.

Axis letters: T tokens of a row, N traced positions, L blocks, H heads, V vocabulary, h width.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

MAX_LOGITS_BYTES = 64 * 1024**2
"""Of the logits that exist at once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """One hooked forward; all tensors on the CPU. Layer i is what leaves block i."""

    embedding_norms_T: Tensor
    """L2 norm of what enters the first block."""
    top_LN: Tensor
    """int64 most probable next token by the model's own final norm and head."""
    probability_LN: Tensor
    """float32, its probability."""
    residual_norm_L: Tensor
    """Mean L2 norm over the positions of what leaves the block."""
    attention_norm_L: Tensor | None
    """Mean L2 norm of what attention adds; None where the block's update is not attention plus MLP."""
    mlp_norm_L: Tensor | None
    attention_HTT: Tensor | None
    """Of the chosen block: weights of head, query, key; None where none was chosen or the block has none."""


@dataclass(slots=True, eq=False)
class LensRows:
    """The figures of a probe while they are collected, a row for each block."""

    top: list[Tensor] = field(default_factory=list)
    probability: list[Tensor] = field(default_factory=list)
    residual: list[Tensor] = field(default_factory=list)
    attention: list[Tensor] = field(default_factory=list)
    mlp: list[Tensor] = field(default_factory=list)

    def probe(self, embedding_norms_T: Tensor, attention_HTT: Tensor | None) -> Probe:
        """All rows together."""
        complete = len(self.attention) == len(self.top)
        return Probe(
            embedding_norms_T=embedding_norms_T.float().cpu(),
            top_LN=torch.stack(self.top).cpu(),
            probability_LN=torch.stack(self.probability).cpu(),
            residual_norm_L=torch.stack(self.residual).cpu(),
            attention_norm_L=torch.stack(self.attention).cpu() if complete else None,
            mlp_norm_L=torch.stack(self.mlp).cpu() if complete else None,
            attention_HTT=None if attention_HTT is None else attention_HTT.float().cpu(),
        )


def best(logits_NV: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) most probable token of each row, and its probability."""
    largest = logits_NV.float().max(dim=-1)
    return largest.indices, (largest.values - logits_NV.float().logsumexp(dim=-1)).exp()


def rows_at_once(vocab_size: int) -> int:
    """How many positions' logits may exist together."""
    return max(1, MAX_LOGITS_BYTES // (4 * vocab_size))


def mean_norm(x_Nh: Tensor) -> Tensor:
    """Mean L2 norm of rows, a scalar."""
    return x_Nh.float().norm(dim=-1).mean()


def relative_change(a: Tensor, b: Tensor, scale: float, weight: Tensor, magnitude: Tensor | None = None) -> float:
    """||W' - W||_F / ||W||_F, without making W' = W + scale * B @ A, whose rows DoRA gives the lengths ``magnitude``.

    Args:
        a: (r, in).
        b: (out, r).
        scale: of the adapter.
        weight: the matrix that is changed, (out, in); without ``magnitude`` in either orientation.
        magnitude: (out,) with DoRA.
    """
    a, b, weight = a.detach().double(), scale * b.detach().double(), weight.detach()
    size = float(torch.linalg.vector_norm(weight.float()))
    gram = a @ a.t()
    if magnitude is None:
        return float(((b.t() @ b) * gram).sum().clamp(min=0.0).sqrt()) / size
    # By row, with w of W, d of scale * B @ A and c the factor: ||c (w + d) - w||^2.
    own = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float64).square()
    crossed, added = ((weight.double() @ a.t()) * b).sum(-1), ((b @ gram) * b).sum(-1)
    factor = magnitude.detach().double() / (own + 2 * crossed + added).sqrt()
    less = factor - 1.0
    squared = less.square() * own + 2 * less * factor * crossed + factor.square() * added
    return float(squared.sum().clamp(min=0.0).sqrt()) / size


@torch.inference_mode()
def nearest_tokens(vectors_Vh: Tensor, token: int, count: int) -> list[tuple[int, float]]:
    """The tokens whose embeddings have the largest cosine with that of ``token``, itself left out; best first."""
    wanted = vectors_Vh[token].float()
    lengths = vectors_Vh.float().norm(dim=-1).clamp(min=1e-12)
    cosine_V = (vectors_Vh.float() @ wanted) / (lengths * wanted.norm().clamp(min=1e-12))
    cosine_V[token] = -2.0
    found = torch.topk(cosine_V, min(count, cosine_V.shape[0] - 1))
    return list(zip(found.indices.tolist(), found.values.tolist(), strict=True))
