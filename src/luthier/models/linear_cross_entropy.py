"""Output matrix and cross-entropy in one, a few rows at a time: logits of all rows never exist together.

What it does: the weighted sum of losses with its gradient made on the way forward (as in Liger, Hsu et al. 2024, arXiv:2410.10989), greedy
hits and each loss. What it does not: divide. Called by ``decoder.py`` where the logits would be large.

Axis letters: N chosen positions, h width, V vocabulary.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_NUMBERS = 1 << 27
"""Logits that exist at once: 512 MiB in float32."""


class LinearCrossEntropy(torch.autograd.Function):
    """``(x, W, targets, weights) -> (sum of weighted losses, greedy hits, weighted losses)``."""

    @staticmethod
    def forward(ctx: Any, x_Nh: Tensor, head_Vh: Tensor, targets_N: Tensor, weights_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A scalar and twice (N,); gradients of the first for x, and for W where it trains."""
        rows = max(1, CHUNK_NUMBERS // head_Vh.shape[0])
        loss, hits_N = torch.zeros((), device=x_Nh.device), torch.empty(x_Nh.shape[0], dtype=torch.int64, device=x_Nh.device)
        losses_N = torch.empty(x_Nh.shape[0], device=x_Nh.device)
        wanted = ctx.needs_input_grad
        d_x = torch.empty_like(x_Nh) if wanted[0] else None
        d_head = torch.zeros_like(head_Vh) if wanted[1] else None
        for start in range(0, x_Nh.shape[0], rows):
            part = slice(start, start + rows)
            logits = F.linear(x_Nh[part], head_Vh).float()
            targets, weights = targets_N[part, None], weights_N[part, None]
            norms = logits.logsumexp(-1, keepdim=True)
            losses = (norms - logits.gather(-1, targets)) * weights
            losses_N[part] = losses[:, 0]
            loss += losses.sum()
            hits_N[part] = logits.argmax(-1) == targets_N[part]
            if d_x is None and d_head is None:
                continue
            gradient = logits.sub_(norms).exp_()
            gradient.scatter_add_(-1, targets, torch.full_like(norms, -1.0))
            narrow = gradient.mul_(weights).to(x_Nh.dtype)
            if d_x is not None:
                torch.mm(narrow, head_Vh, out=d_x[part])
            if d_head is not None:
                d_head.addmm_(narrow.t(), x_Nh[part])
        ctx.save_for_backward(d_x, d_head)
        ctx.mark_non_differentiable(hits_N, losses_N)
        return loss, hits_N, losses_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _hits: Tensor, _losses: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # type: ignore[override]
        """The gradients made before, times the incoming one."""
        d_x, d_head = ctx.saved_tensors
        return None if d_x is None else d_x * grad.to(d_x.dtype), None if d_head is None else d_head * grad.to(d_head.dtype), None, None
