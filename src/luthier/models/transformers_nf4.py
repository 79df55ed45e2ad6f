"""The linear layers of a model of transformers, held in 4 bits while an adapter trains over them.

What it does: puts a packed layer in the place of each linear layer that an adapter could be on, one after the other, so that each matrix is
given back before the next is packed. What it does not: pack the head, embeddings, routers, or experts that are stacked in one tensor; nor
read the files in 4 bits: the base is there as a whole once. Called by ``transformers_model.py``.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from luthier.core.errors import InvalidRequest
from luthier.models.nf4 import Nf4Weight, Room, packed_linear


class PackedLinear(nn.Linear):
    """A frozen ``nn.Linear`` in 4 bits. ``weight`` unpacks it at each look, for code that reads it instead of calling the layer."""

    def __init__(self, layer: nn.Linear, room: Room) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.bias = layer.in_features, layer.out_features, layer.bias
        self.packed = Nf4Weight(layer.weight, dtype=layer.weight.dtype, room=room)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(out, in) the numbers."""
        return self.packed.dense()

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return packed_linear(input, self.packed, self.bias)


class PackedConv1D(Conv1D):
    """The same for the layers of GPT-2, whose matrices lie as (in, out)."""

    def __init__(self, layer: Conv1D, room: Room) -> None:
        nn.Module.__init__(self)
        self.nf, self.nx, self.bias = layer.nf, layer.nx, layer.bias
        self.packed = Nf4Weight(layer.weight, dtype=layer.weight.dtype, room=room)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(in, out) the numbers."""
        return self.packed.dense()

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return packed_linear(x, self.packed, self.bias, transposed=True)


def pack_layers(model: Any, names: list[str]) -> None:
    """Put the named layers (``transformers_parts.lora_targets``) into 4 bits.

    Raises:
        InvalidRequest: there are none, or bitsandbytes is not installed.
    """
    if not names:
        raise InvalidRequest("The base model has no linear layer that could be held in 4 bits.", param="luthier.quantization")
    room = Room()
    with torch.no_grad():
        for name in names:
            place, _, own = name.rpartition(".")
            parent = model.get_submodule(place)
            layer = getattr(parent, own)
            setattr(parent, own, PackedConv1D(layer, room) if isinstance(layer, Conv1D) else PackedLinear(layer, room))
