"""Looking tokens up in an embedding that is also the head, without a second matrix of gradients.

What it does: the lookup's few rows are added to ``weight.grad``, where the head's gradient lies (``head.py``), or zeros where the head made
none of its own; autograd would make a matrix of zeros for them, and a third one of the sum. What it does not: anything for a head of its
own. Called by ``decoder.py``.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TiedLookup(torch.autograd.Function):
    """``F.embedding(ids, weight)`` whose gradient goes to ``weight.grad`` itself. ``weight`` is a leaf that trains."""

    @staticmethod
    def forward(ctx: Any, ids_N: Tensor, weight_Vh: nn.Parameter) -> Tensor:
        """(N,) -> (N, h)."""
        ctx.ids_N, ctx.weight_Vh = ids_N, weight_Vh
        return F.embedding(ids_N, weight_Vh)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:  # type: ignore[override]
        """(N, h)."""
        weight = ctx.weight_Vh
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad.index_add_(0, ctx.ids_N, grad)
        return None, None
