"""Float32 weights as bfloat16, in which what they learned is not lost: rounding with a fixed dither.

What it does: of the weights that lie a share s of a grid step above a bfloat16 number, the share s is rounded up and the rest down. A
weight that was read from a bfloat16 file lies on the grid, and half a grid step (0.2 to 0.4 % of it) is more than most updates of a run:
rounded to the nearest it would stay where it was until then, in training and in the file that is saved. Rounding up with the probability s
is stochastic rounding (Zamirai et al. 2020, arXiv:2010.06192); here a pattern that never changes takes the dice's place, so that the same
weights have the same copies everywhere, and a number on the grid stays as it is. Gradients of a product by such a copy pass as if nothing
was rounded. What it does not: other formats than bfloat16, or keeping a copy (``matrix.py`` does). Called by ``matrix.py``,
``decoder_weights.py``, ``transformers_model.py`` and ``transformers_rounding.py``.
"""

import functools
import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_LOW_BITS = 1 << 16
"""What float32 has more than bfloat16."""
_STRIDE = 40503
"""2^16 by the golden ratio: along a row the thresholds are as even as a sequence can be (Weyl), and down a column, which steps by two."""
_ROW_STEP = 2
_HIGH_HALF = 1 if sys.byteorder == "little" else 0
_AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 24}
"""Numbers whose sums exist together, 4 bytes each."""
_MOST_ROWS = _LOW_BITS // _ROW_STEP
"""At once: the thresholds of so many begin within one period."""


def rounded(weight: Tensor, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
    """The weight's values in another format: to bfloat16 dithered, to any other the nearest.

    Args:
        weight: of any shape; its last axis is a row.
        dtype: wanted.
        out: where to put them; None makes a new tensor.
    """
    weight = weight.detach()
    if weight.dtype != torch.float32 or dtype != torch.bfloat16 or weight.ndim == 0 or not weight.numel():
        return weight.to(dtype) if out is None else out.copy_(weight)
    out = torch.empty_like(weight, dtype=dtype, memory_format=torch.contiguous_format) if out is None else out
    width = weight.shape[-1]
    rows, halves = weight.reshape(-1, width).contiguous().view(torch.int32), out.view(torch.int16).view(-1, width)
    at_once = min(max(1, at_once_on(weight.device.type) // width), _MOST_ROWS)
    # A compiler writes them into the kernel.
    make = _thresholds if torch.compiler.is_compiling() else _kept_thresholds
    thresholds = make(width, weight.device)
    # On a CPU the same memory for all sums: what was freed is seldom found again there (``head.py``).
    space = rows.new_empty(min(at_once, rows.shape[0]), width) if weight.device.type == "cpu" else None
    for start in range(0, rows.shape[0], at_once):
        part = rows[start : start + at_once]
        # A float32's bits rise with its size: the sum carries into the upper half where the lower one is above the threshold's rest.
        above = thresholds.as_strided(part.shape, (_ROW_STEP, 1), _ROW_STEP * start % _LOW_BITS)
        sums = torch.add(part, above, out=None if space is None else space[: len(part)])
        halves[start : start + at_once] = sums.view(torch.int16).view(*part.shape, 2)[..., _HIGH_HALF]
    return out


def at_once_on(device: str) -> int:
    """Numbers whose sums, of 4 bytes, exist together while a weight is rounded on this kind of device."""
    return _AT_ONCE.get(device, _AT_ONCE["cuda"])


def _thresholds(width: int, device: torch.device) -> Tensor:
    """Of a piece whose first row begins anywhere within a period."""
    return ((torch.arange(2 * _LOW_BITS + width, dtype=torch.int64, device=device) * _STRIDE) % _LOW_BITS).to(torch.int32)


_kept_thresholds = functools.lru_cache(maxsize=32)(_thresholds)


def rounded_product(x: Tensor, weight: Tensor, *, transposed: bool = False) -> Tensor:
    """x @ W.T, or x @ W where W is ``transposed``, by the bfloat16 values of a float32 W in the format of ``x``.

    W is rounded anew in each direction: to keep the copy between them would take half of W's memory once more.

    Args:
        x: (..., in).
        weight: (out, in), or (in, out) where ``transposed``.
        transposed: see ``weight``.
    """
    y = _RoundedProduct.apply(x, weight, transposed)
    assert isinstance(y, Tensor)
    return y


class _RoundedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, transposed: bool) -> Tensor:
        """(..., in) -> (..., out)."""
        ctx.save_for_backward(x, weight)
        ctx.transposed = transposed
        w = _values(weight, x)
        return F.linear(x, w.t() if transposed else w)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # type: ignore[override]
        """Gradients of x and W in their own numbers."""
        x, weight = ctx.saved_tensors
        d_x = d_weight = None
        if ctx.needs_input_grad[0]:
            w = _values(weight, grad)
            d_x = grad @ (w.t() if ctx.transposed else w)
        if ctx.needs_input_grad[1]:
            flat_x, flat_grad = x.flatten(0, -2), grad.flatten(0, -2)
            d_weight = (flat_x.t() @ flat_grad if ctx.transposed else flat_grad.t() @ flat_x).to(weight.dtype)
        return d_x, d_weight, None


def _values(weight: Tensor, x: Tensor) -> Tensor:
    return rounded(weight, torch.bfloat16).to(x.dtype)
