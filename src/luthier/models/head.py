"""The output matrix: a matrix that keeps, while it trains on a CPU, the memory that each step writes anew.

What it does: lends room for logits and for the gradient, the same in each step. Taken from the C library each time, blocks of such size are
seldom found again once anything small lies between them (glibc before 2.38 and ``posix_memalign``): each costs its pages once more, and
the heap grows with the steps. What it does not: read what lies there. Made in ``decoder_weights.py``, called by
``linear_cross_entropy.py``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from luthier.models.matrix import Matrix


class Head(Matrix):
    """A weight (V, h)."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__(weight)
        self._logits: dict[torch.dtype, Tensor] = {}
        self._gradient: Tensor | None = None
        self._lent = False

    def logits(self, x: Tensor) -> Tensor:
        """(N, h) -> (N, V) in float32, to be written over; good until the next call."""
        if not self._keeps(x):
            return self.times(x).float()
        made = self.times(x, self._room(len(x), x.dtype))
        return made if x.dtype == torch.float32 else self._room(len(x), torch.float32).copy_(made)

    def narrowed(self, d_logits: Tensor, x: Tensor) -> Tensor:
        """The first rows of ``logits(x)``, written over with their gradient, in the format of ``x``, and rows of zeros up to as many."""
        more = len(x) - len(d_logits)
        if not self._keeps(x):
            narrow = d_logits.to(x.dtype)
            return F.pad(narrow, (0, 0, 0, more)) if more else narrow
        room = self._room(len(x), x.dtype)
        if x.dtype != torch.float32:
            room[: len(d_logits)].copy_(d_logits)
        room[len(d_logits) :].zero_()
        return room

    def with_part(self, gradient: Tensor | None, d_logits_VN: Tensor, x_Nh: Tensor) -> Tensor:
        """The weight's gradient (V, h) with what some rows add to it; None where they are the first."""
        if gradient is not None:
            return gradient.addmm_(d_logits_VN, x_Nh)
        room = self._gradient_room()
        return d_logits_VN @ x_Nh if room is None else torch.mm(d_logits_VN, x_Nh, out=room)

    def add_gradient(self, made: Tensor, scale: Tensor) -> None:
        """Add ``made`` (V, h), which is written over, times ``scale`` to ``weight.grad``, or make it that."""
        weight = self.numbers()
        if made is self._gradient:
            self._lent = False
        made.mul_(scale.to(made.dtype))
        weight.grad = made if weight.grad is None else weight.grad.add_(made)

    def _keeps(self, x: Tensor) -> bool:
        return self.numbers().requires_grad and x.device.type == "cpu"

    def _room(self, rows: int, dtype: torch.dtype) -> Tensor:
        room = self._logits.pop(dtype, None)
        if room is None or len(room) < rows:
            del room  # or there would be both for a moment
            room = torch.empty(rows, self.weight.shape[0], dtype=dtype)
        self._logits[dtype] = room
        return room[:rows]

    def _gradient_room(self) -> Tensor | None:
        """None where it is not kept, or not free: lent to a forward without its backward yet, or ``weight.grad`` until the step ends."""
        weight = self.numbers()
        if weight.device.type != "cpu" or self._lent or (self._gradient is not None and weight.grad is self._gradient):
            return None
        if self._gradient is None:
            self._gradient = torch.empty_like(weight)
        self._lent = True
        return self._gradient
