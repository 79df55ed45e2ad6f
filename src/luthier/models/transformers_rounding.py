"""Linear layers of transformers in mixed precision: each product by its weight as ``rounding.py`` makes it bfloat16.

What it does: gives a model's linear layers such a product in place of their own; gradients pass as if nothing was rounded. On a CPU the
numbers between the products stay float32 and oneDNN rounds them on the way in (``device.py``), on a GPU they become bfloat16 as under
autocast.

What it does not: layers that are none of transformers' two kinds (stacked experts), which the library rounds to the nearest. Called by
``transformers_model.py``.
"""

from functools import partial

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from luthier.models.rounding import rounded_product


def round_products(model: nn.Module) -> None:
    """From now on, for as long as the model lives."""
    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D):
            module.forward = partial(_product_of, module, isinstance(module, Conv1D))  # type: ignore[method-assign]


def _product_of(module: nn.Linear | Conv1D, transposed: bool, x: Tensor) -> Tensor:
    y = rounded_product(x.to(torch.bfloat16) if x.is_cuda else x, module.weight, transposed=transposed)
    return y if module.bias is None else y + module.bias.to(y.dtype)
