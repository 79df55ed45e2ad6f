"""Output matrix and cross-entropy in one, some rows at a time: logits of all rows never exist together.

What it does: the weighted sum of losses with its gradient made on the way forward (as in Liger, Hsu et al. 2024, arXiv:2410.10989), greedy
hits and each loss. What it does not: divide. Called by ``decoder.py``.

Axis letters: N chosen positions, h width, V vocabulary.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from luthier.models.head import Head

CHUNK_NUMBERS = 1 << 27
"""Logits that exist at once on a GPU: 512 MiB in float32."""
_FROZEN_NUMBERS, _TRAINED_NUMBERS, _WIDE_NUMBERS = 1 << 21, 1 << 23, 1 << 24
"""On a CPU, where what fits its caches is up to twice as fast (``experiments/LOG.md``). A head that trains, or that the caches do not hold,
is read (and written) once more for each piece, so that its pieces are larger."""
_WIDE_HEAD = 1 << 24
"""Numbers of a head from which on the caches do not hold it."""
_FEWEST_ROWS, _GRAIN = 64, 16


def rows_at_once(vocab_size: int, width: int, *, on_cpu: bool, trains: bool) -> int:
    """Positions whose logits exist at once."""
    if not on_cpu:
        return max(1, CHUNK_NUMBERS // vocab_size)
    wide = vocab_size * width >= _WIDE_HEAD
    rows = (_WIDE_NUMBERS if wide else _TRAINED_NUMBERS if trains else _FROZEN_NUMBERS) // vocab_size
    return max(_FEWEST_ROWS, rows // _GRAIN * _GRAIN)


def last_rows(count: int) -> int:
    """Rows of a last piece with so many positions, on a CPU: one of few sizes, for the sake of ``row_counts.py``. The routines of a head of
    9 million numbers take 10 ms each to make."""
    return count if count <= _GRAIN // 2 else -(-count // _GRAIN) * _GRAIN


def head_losses(x_Nh: Tensor, head: Head, targets_N: Tensor, weights_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``LinearCrossEntropy`` by the head's own weight; without its gradient where nothing learns, for which a function of autograd is asked
    by the weight alone."""
    weight = head.numbers()
    return LinearCrossEntropy.apply(x_Nh, head, weight if torch.is_grad_enabled() else weight.detach(), targets_N, weights_N)  # type: ignore[no-any-return]


class LinearCrossEntropy(torch.autograd.Function):
    """``(x, head, targets, weights) -> (sum of weighted losses, greedy hits, weighted losses)``."""

    @staticmethod
    def forward(ctx: Any, x_Nh: Tensor, head: Head, head_Vh: Tensor, targets_N: Tensor, weights_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A scalar and twice (N,); gradients of the first for x, and for the head's weight where it trains."""
        wanted = ctx.needs_input_grad
        rows = rows_at_once(*head_Vh.shape, on_cpu=x_Nh.device.type == "cpu", trains=wanted[2])
        loss, hits_N = torch.zeros((), device=x_Nh.device), torch.empty(x_Nh.shape[0], dtype=torch.int64, device=x_Nh.device)
        losses_N = torch.empty(x_Nh.shape[0], device=x_Nh.device)
        d_x = torch.empty_like(x_Nh) if wanted[0] else None
        d_head: Tensor | None = None
        for start in range(0, x_Nh.shape[0], rows):
            part = slice(start, start + rows)
            piece, targets, weights = x_Nh[part], targets_N[part, None], weights_N[part, None]
            evened = _evened(piece)
            logits = head.logits(evened)[: len(piece)]
            losses, right, gradient = _judged(logits, targets, gradient=bool(wanted[0] or wanted[2]))
            del logits
            losses *= weights
            losses_N[part] = losses[:, 0]
            loss += losses.sum()
            hits_N[part] = right[:, 0]
            # A position's weight is put in where the rows are narrow, and not on its whole vocabulary.
            if gradient is not None and d_x is not None:
                d_x[part] = head.back(head.narrowed(gradient, evened))[: len(piece)] * weights
            if gradient is not None and wanted[2]:
                d_logits, weighed = gradient.to(head_Vh.dtype), (piece * weights).to(head_Vh.dtype)
                d_head = head.with_part(d_head, d_logits.t(), weighed)
                del d_logits
            del gradient  # or the next piece's logits would find it beside them
        # Not saved by autograd, which would keep them.
        ctx.made, ctx.head = (d_x, d_head), head
        ctx.mark_non_differentiable(hits_N, losses_N)
        return loss, hits_N, losses_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _hits: Tensor, _losses: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """The gradients made before, times the incoming one; the weight's goes to ``weight.grad`` itself."""
        (d_x, d_head), ctx.made = ctx.made, None
        if d_head is not None:
            ctx.head.add_gradient(d_head, grad)
        return None if d_x is None else d_x * grad.to(d_x.dtype), None, None, None, None


def _evened(piece: Tensor) -> Tensor:
    """With rows of zeros below, on a CPU."""
    more = last_rows(len(piece)) - len(piece) if piece.device.type == "cpu" else 0
    return F.pad(piece, (0, 0, 0, more)) if more else piece


def _judged(logits_NV: Tensor, targets_N1: Tensor, *, gradient: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """(N, 1) losses, (N, 1) whether the greedy choice is right, and, where it is asked for, the losses' gradient for the logits."""
    chosen_N1 = logits_NV.gather(-1, targets_N1)
    most_N1, best_N1 = logits_NV.max(-1, keepdim=True)
    if logits_NV.device.type == "cpu":
        # Over the logits themselves: each row is read before it is written.
        probabilities = torch.softmax(logits_NV, -1, out=logits_NV)
        # By the likeliest token: the target's own probability may be too small for a float32.
        norms_N1 = most_N1 - probabilities.gather(-1, best_N1).log()
    else:
        # The library's logsumexp takes the logits' memory once more.
        probabilities = logits_NV.sub_(most_N1).exp_()
        sums_N1 = probabilities.sum(-1, keepdim=True)
        norms_N1 = most_N1 + sums_N1.log()
        if gradient:
            probabilities.div_(sums_N1)
    if gradient:
        probabilities.scatter_add_(-1, targets_N1, torch.full_like(norms_N1, -1.0))
    return norms_N1 - chosen_N1, best_N1 == targets_N1, probabilities if gradient else None
