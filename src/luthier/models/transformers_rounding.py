"""Linear layers of transformers in mixed precision: each product by its weight as ``rounding.py`` makes it bfloat16.

What it does: gives a model's linear layers such a product in place of their own; gradients pass as if nothing was rounded. On a CPU the
numbers between the products stay float32 and oneDNN rounds them on the way in (``device.py``), on a GPU they become bfloat16 as under
autocast.

What it does not: layers that are none of transformers' two kinds (stacked experts), which the library rounds to the nearest. Called by
``transformers_model.py``.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from luthier.models.rounding import rounded


def round_products(model: nn.Module) -> None:
    """From now on, for as long as the model lives."""
    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D):
            module.forward = partial(_product_of, module, isinstance(module, Conv1D))  # type: ignore[method-assign]


def _product_of(module: nn.Linear | Conv1D, transposed: bool, x: Tensor) -> Tensor:
    y = _RoundedProduct.apply(x, module.weight, transposed)
    assert isinstance(y, Tensor)
    return y if module.bias is None else y + module.bias.to(y.dtype)


class _RoundedProduct(torch.autograd.Function):
    """x @ W.T, or x @ W where W is transposed; W is rounded anew in each direction."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, transposed: bool) -> Tensor:
        """(..., in) -> (..., out)."""
        narrow = x.to(torch.bfloat16) if x.is_cuda else x
        ctx.save_for_backward(narrow, weight)
        ctx.transposed, ctx.dtype = transposed, x.dtype
        w = _for(weight, narrow)
        return narrow @ (w if transposed else w.t())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # type: ignore[override]
        """Gradients of x and W in their own numbers."""
        x, weight = ctx.saved_tensors
        w = _for(weight, grad)
        d_x = (grad @ (w.t() if ctx.transposed else w)).to(ctx.dtype) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return d_x, None, None
        flat_x, flat_grad = x.flatten(0, -2), grad.flatten(0, -2)
        return d_x, (flat_x.t() @ flat_grad if ctx.transposed else flat_grad.t() @ flat_x).to(weight.dtype), None


def _for(weight: Tensor, x: Tensor) -> Tensor:
    return rounded(weight, torch.bfloat16).to(x.dtype)
