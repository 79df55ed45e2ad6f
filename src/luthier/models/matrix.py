"""One weight matrix and the quickest way to multiply by it, or to hold it small.

What it does: keeps, beside a frozen float32 matrix on the CPU, copies in other layouts, made when first used. For the few rows of a short
example oneDNN's blocked layout is about twice as fast as the default routine; for one row a tall matrix is two to four times as fast
transposed. A matrix that was packed into 4 bits is unpacked for each product instead. What it does not: gradients (``decoder_layer.py``
writes them by hand; ``linear`` is for what autograd differentiates). Called by ``decoder_layer.py``, ``flat.py``, ``decoder.py`` and
``dora.py``. A matrix that trains has no copies.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from luthier.models.nf4 import Nf4Weight, packed_linear

# The blocked layout is chosen for a row count; measured on 1 to 512 rows, the layout for 64 is close to the best for all.
_ROWS_HINT = 64
# Larger matrices are not copied: they are bound by memory bandwidth, and the copies would take the memory of the model again.
MAX_COPIED = 1 << 24


class Matrix:
    """A weight (out, in). ``times`` gives x @ W.T, ``back`` gives y @ W."""

    def __init__(self, weight: nn.Parameter | Nf4Weight) -> None:
        self.weight = weight
        self._packed: Tensor | None = None
        self._packed_back: Tensor | None = None
        self._transposed: Tensor | None = None
        self._version = -1

    def times(self, x: Tensor) -> Tensor:
        """(N, in) -> (N, out)."""
        if self._may_copy(x):
            if x.shape[0] == 1:
                return x @ self._columns() if self.weight.shape[0] > self.weight.shape[1] else F.linear(x, self.dense())
            if self._packed is None:
                self._packed = _pack(self.dense())
            return torch.ops.mkldnn._linear_pointwise(x, self._packed, None, "none", [], "")
        return F.linear(x, self.numbers())

    def back(self, y: Tensor) -> Tensor:
        """(N, out) -> (N, in)."""
        if y.shape[0] > 1 and self._may_copy(y):
            if self._packed_back is None:
                self._packed_back = _pack(self.dense().t())
            return torch.ops.mkldnn._linear_pointwise(y, self._packed_back, None, "none", [], "")
        return y @ self.numbers()

    def dense(self) -> Tensor:
        """(out, in): the weight itself, without gradients, or what the packed one stands for."""
        return self.weight.dense() if isinstance(self.weight, Nf4Weight) else self.weight.detach()

    def numbers(self) -> Tensor:
        """``dense`` for use at once: the next packed matrix of the model may take their place."""
        return self.weight.unpacked() if isinstance(self.weight, Nf4Weight) else self.weight

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
    """x @ W.T + bias in operators that autograd differentiates; a packed weight is unpacked on the way there and again on the way back."""
    return packed_linear(x, weight, bias) if isinstance(weight, Nf4Weight) else F.linear(x, weight, bias)


def _pack(weight: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _ROWS_HINT)


_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
