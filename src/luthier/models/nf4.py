"""A frozen matrix in 4 bits: NF4 with double quantisation, as QLoRA trains adapters over (Dettmers et al. 2023, arXiv:2305.14314).

What it does: packs a matrix, gives it back in the numbers that are computed with, multiplies by it with a gradient for the input. What it
does not: train the matrix, or say which matrices are packed (``decoder_weights.py`` and ``transformers_nf4.py`` do). Called by these two
and by ``matrix.py``. The one file that imports bitsandbytes, which the extra ``qlora`` installs.

Sixteen values at the quantiles of a normal distribution stand for the numbers of a block of 64, times the block's largest magnitude; these
magnitudes are 8-bit numbers themselves, in blocks of 256. That is 4.127 bits a number.
"""

import contextlib
import functools
import importlib
import logging
import sys
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from luthier.core.errors import InvalidRequest
from luthier.core.quantization import NOT_INSTALLED, is_installed

BLOCK, SCALE_BLOCK = 64, 256
_PIECE = 1 << 20
"""Numbers that are packed at once: packing takes some five times their memory. A multiple of the block."""
_UNPACKED = 1 << 20
"""Numbers that a CPU unpacks at once, before they are copied to their place."""
NOT_SAVED = "A base that is held in 4 bits cannot be saved: the rounded numbers are not those of its files."


class Room:
    """Where a CPU unpacks the matrices of one model, one at a time. Large blocks that came and went between the smaller ones that a forward
    keeps would tear the heap: a run over 120 M packed numbers was seen to take 300 MB more."""

    def __init__(self) -> None:
        self._flat = torch.empty(0)

    def take(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """A tensor of this shape whose numbers mean nothing; the one before is over."""
        if self._flat.numel() < shape.numel() or self._flat.dtype != dtype:
            with torch.inference_mode(False):
                self._flat = torch.empty(shape.numel(), dtype=dtype)
        return self._flat[: shape.numel()].view(shape)


class Nf4Weight:
    """A matrix (out, in), or whatever two axes it has. ``dense`` gives it back; it never trains."""

    requires_grad = False

    def __init__(self, dense: Tensor, *, dtype: torch.dtype, room: Room | None = None) -> None:
        """Pack; ``dense`` is not kept.

        Args:
            dense: any floating numbers, on the device that computes.
            dtype: of what comes back.
            room: shared by the matrices of a model.

        Raises:
            InvalidRequest: bitsandbytes is not installed.
        """
        bnb = _functional()
        flat = dense.detach().reshape(-1)
        packed = [bnb.quantize_4bit(piece.float(), blocksize=BLOCK, quant_type="nf4") for piece in flat.split(_PIECE)]
        self._codes = torch.cat([codes for codes, _ in packed])
        scales = torch.cat([state.absmax for _, state in packed])
        offset = scales.mean()
        narrow, nested = bnb.quantize_blockwise(scales - offset, blocksize=SCALE_BLOCK)
        self._state = bnb.QuantState(
            absmax=narrow,
            shape=dense.shape,
            dtype=dtype,
            blocksize=BLOCK,
            code=packed[0][1].code,
            quant_type="nf4",
            offset=offset,
            state2=nested,
        )
        self.shape, self.dtype, self.device = dense.shape, dtype, dense.device
        self._room = room or Room()

    def dense(self) -> Tensor:
        """The matrix, anew at each call."""
        if self.device.type != "cpu":
            return _functional().dequantize_4bit(self._codes, self._state)
        return self._written_to(torch.empty(self.shape, dtype=self.dtype))

    def unpacked(self) -> Tensor:
        """The same numbers for one product: the next matrix of the model may take their place."""
        # Torch's own memory of a GPU hands blocks out again.
        return self.dense() if self.device.type != "cpu" else self._written_to(self._room.take(self.shape, self.dtype))

    @torch.no_grad()
    def _written_to(self, out: Tensor) -> Tensor:
        """In pieces, each a single row: with rows of 32 but not of 64 numbers, bitsandbytes 0.50.2 takes wrong scales on a CPU."""
        bnb, state = _functional(), self._state
        scales = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
        parts = zip(self._codes.split(_UNPACKED // 2), scales.split(_UNPACKED // BLOCK), out.view(-1).split(_UNPACKED), strict=True)
        for codes, scale, place in parts:
            part = bnb.QuantState(absmax=scale, shape=place.shape, dtype=self.dtype, blocksize=BLOCK, code=state.code, quant_type="nf4")
            place.copy_(bnb.dequantize_4bit(codes, part).view(-1))
        return out

    @property
    def nbytes(self) -> int:
        """What it takes in memory, but for the tables of code values."""
        return self._codes.nbytes + self._state.absmax.nbytes + self._state.state2.absmax.nbytes

    def numel(self) -> int:
        """Numbers of the matrix."""
        return self.shape.numel()


class _Product(torch.autograd.Function):
    """x @ W.T + bias; what is kept for the way back is the packed matrix."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Nf4Weight, bias: Tensor | None, transposed: bool) -> Tensor:
        """(..., in) -> (..., out)."""
        ctx.weight, ctx.transposed = weight, transposed
        dense = weight.unpacked()
        return F.linear(x, dense.t() if transposed else dense, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        """(..., out) -> (..., in)."""
        dense = ctx.weight.unpacked()
        return grad @ (dense.t() if ctx.transposed else dense), None, None, None


def packed_linear(x: Tensor, weight: Nf4Weight, bias: Tensor | None = None, *, transposed: bool = False) -> Tensor:
    """x @ W.T + bias with a gradient for x alone; ``transposed``: the matrix lies as (in, out)."""
    out = _Product.apply(x, weight, bias, transposed)
    assert isinstance(out, Tensor)
    return out


@functools.cache
def _functional() -> Any:
    if not is_installed():
        raise InvalidRequest(NOT_INSTALLED, code="unsupported_value", param="luthier.quantization")
    with _without_kernels():
        return importlib.import_module("bitsandbytes.functional")


@contextlib.contextmanager
def _without_kernels() -> Iterator[None]:
    """Where the package ``kernels`` is installed, bitsandbytes fetches code from a hub while it is imported; without it, it warns. The
    product that this code is for is not used here."""
    logger, before = logging.getLogger("bitsandbytes"), sys.modules.get("kernels")
    level = logger.level
    logger.setLevel(logging.ERROR)
    sys.modules["kernels"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        logger.setLevel(level)
        if before is None:
            del sys.modules["kernels"]
        else:
            sys.modules["kernels"] = before
