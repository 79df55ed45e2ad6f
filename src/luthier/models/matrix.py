"""One weight matrix and the quickest way to multiply by it, or to hold it small.

What it does: keeps, beside a frozen float32 matrix on the CPU, copies in other layouts, made when first used. For the few rows of a short
example oneDNN's blocked layout is about twice as fast as the default routine; for one row a tall matrix is two to four times as fast
transposed. A matrix that was packed into 4 bits is unpacked for each product instead. One that trains has a single copy, and only where
the rows come in fewer bits than it has (mixed precision): it is rounded once for a step, and not again in each product. What it does not:
gradients (``decoder_layer.py`` writes them by hand; ``linear`` is for what autograd differentiates). Called by ``decoder_layer.py``,
``flat.py``, ``decoder.py`` and ``dora.py``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from luthier.models.nf4 import Nf4Weight, packed_linear
from luthier.models.rounding import rounded, rounded_product

# The blocked layout is chosen for a row count; measured on 1 to 512 rows, the layout for 64 is close to the best for all.
_ROWS_HINT = 64
# Larger matrices are not copied: they are bound by memory bandwidth, and the copies would take the memory of the model again.
MAX_COPIED = 1 << 24
# oneDNN gives a bfloat16 product of so many columns to one thread when it has as many rows; some rows at a time it gives them to two
# (``experiments/LOG.md``: 1.0 to 1.4 against 1.5 to 2.0 TFLOP/s). Fixed numbers, because how a product is cut decides its bits.
_NARROWEST, _WIDEST, _SHALLOWEST, _MOST = 512, 768, 512, 2048
_PIECE, _DEEP_PIECE, _DEEP = 384, 256, 2048


class Matrix:
    """A weight (out, in). ``times`` gives x @ W.T, ``back`` gives y @ W."""

    def __init__(self, weight: nn.Parameter | Nf4Weight) -> None:
        self.weight = weight
        self._packed: Tensor | None = None
        self._packed_back: Tensor | None = None
        self._transposed: Tensor | None = None
        self._version = -1
        self._rounded: tuple[int, Tensor] | None = None

    def times(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """(N, in) -> (N, out). ``out``: where to put it, for a weight that trains."""
        if self._may_copy(x):
            if x.shape[0] == 1:
                return x @ self._columns() if self.weight.shape[0] > self.weight.shape[1] else F.linear(x, self.dense())
            if self._packed is None:
                self._packed = _pack(self.dense())
            return torch.ops.mkldnn._linear_pointwise(x, self._packed, None, "none", [], "")
        return _product(x, self._for(x).t(), out)

    def back(self, y: Tensor) -> Tensor:
        """(N, out) -> (N, in)."""
        if y.shape[0] > 1 and self._may_copy(y):
            if self._packed_back is None:
                self._packed_back = _pack(self.dense().t())
            return torch.ops.mkldnn._linear_pointwise(y, self._packed_back, None, "none", [], "")
        return _product(y, self._for(y))

    def dense(self) -> Tensor:
        """(out, in): the weight itself, without gradients, or what the packed one stands for."""
        return self.weight.dense() if isinstance(self.weight, Nf4Weight) else self.weight.detach()

    def numbers(self) -> Tensor:
        """``dense`` for use at once: the next packed matrix of the model may take their place."""
        return self.weight.unpacked() if isinstance(self.weight, Nf4Weight) else self.weight

    def _for(self, x: Tensor) -> Tensor:
        """``numbers``, in the format of ``x``."""
        weight = self.numbers()
        if weight.dtype == x.dtype:
            return weight
        version = weight._version
        if self._rounded is None:
            self._rounded = version, rounded(weight, x.dtype)
        elif self._rounded[0] != version:
            self._rounded = version, rounded(weight, x.dtype, self._rounded[1])
        return self._rounded[1]

    def squared_rows(self) -> Tensor:
        """(out,) float32: the squared L2 norm of each row."""
        weight = self.numbers().detach()
        wide = torch.promote_types(weight.dtype, torch.float32)
        return torch.linalg.vector_norm(weight, dim=1, dtype=wide).square().float()

    def _columns(self) -> Tensor:
        if self._transposed is None:
            with torch.inference_mode(False), torch.no_grad():
                self._transposed = self.dense().t().contiguous()
        return self._transposed

    def forget(self) -> None:
        """Drop the copies: the weight is about to change. (A fused optimiser leaves a tensor's version number as it is.)"""
        self._packed = self._packed_back = self._transposed = None

    def _may_copy(self, x: Tensor) -> bool:
        weight = self.weight
        if isinstance(weight, Nf4Weight) or weight.requires_grad or weight.numel() > MAX_COPIED or not _ONEDNN:
            return False
        if x.dtype != torch.float32 or x.device.type != "cpu":
            return False
        if weight._version != self._version:
            self.forget()
            self._version = weight._version
        return True


def linear(x: Tensor, weight: Tensor | Nf4Weight, bias: Tensor | None = None) -> Tensor:
    """x @ W.T + bias in operators that autograd differentiates; a packed weight is unpacked on the way there and again on the way back, and
    one with more bits than ``x`` is rounded."""
    if isinstance(weight, Nf4Weight):
        return packed_linear(x, weight, bias)
    if weight.dtype == x.dtype:
        return F.linear(x, weight, bias)
    y = rounded_product(x, weight)
    return y if bias is None else (y + bias).to(x.dtype)


def _product(x: Tensor, w: Tensor, out: Tensor | None = None) -> Tensor:
    """(N, in) x (in, columns) -> (N, columns)."""
    rows, (width, columns) = x.shape[0], w.shape
    fewest = columns * 2 // 3 if width >= _DEEP else columns
    one_thread = _NARROWEST <= columns <= _WIDEST and width >= _SHALLOWEST and fewest <= rows < _MOST
    if not one_thread or x.dtype != torch.bfloat16 or x.device.type != "cpu":
        return x @ w if out is None else torch.mm(x, w, out=out)
    y = x.new_empty(rows, columns) if out is None else out
    size = _PIECE if width < _DEEP else _DEEP_PIECE
    # As many rows in each as in the next but for eight, so that few routines are made.
    pieces = -(-rows // size)
    size = -(-rows // pieces // 8) * 8
    for start in range(0, rows, size):
        torch.mm(x[start : start + size], w, out=y[start : start + size])
    return y


def _pack(weight: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _ROWS_HINT)


_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
