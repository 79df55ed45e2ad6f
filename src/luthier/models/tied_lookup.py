"""Looking tokens up in an embedding that is also the head, without a third matrix of gradients.

What it does: autograd keeps the head's gradient, for the whole vocabulary, until the lookup's is there too. The lookup's rows are put into
``weight.grad``, of zeros where there is none, to which autograd then adds the head's in place; left to itself it would make one of both and
keep all three for a moment. What it does not: anything for a head of its own. Called by ``decoder.py``.

To add the rows to the head's own gradient saves those zeros, 2 to 3 % of a step, and was not kept: the heap of glibc 2.36 then grew by
0.6 GB in every second run of 135 million parameters (``experiments/LOG.md``, 2026-11-28).
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
