"""Rows of several adapters in one forward over their base: its matrices are read once, and each row meets its own adapter.

What it does: lays the rows of all adapters end to end, stacks the adapters, and multiplies them as one batch. What it does not: the blocks
(``flat.py``) or the losses. Called by ``decoder.py``.

The batch of small products is the idea of batched LoRA (Chen et al. 2023, arXiv:2310.18547; for training Ye et al. 2023,
arXiv:2312.02515). Each adapter has the same number of places, so that one call multiplies all: those that its rows leave empty are
further rows, of which nothing is asked, and a smaller rank is filled up with zeros.

Axis letters: M adapters, S places of each, N = M * S tokens, P chosen positions, L layers, K the largest inner size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from luthier.models.decoder_layer import LayerAdapter
from luthier.models.flat import Joined, JoinedLayer
from luthier.models.language_model import AdapterRows
from luthier.models.lora import DecoderAdapter


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where everything lies; on the CPU."""

    ids_N: Tensor
    """int64."""
    lengths: list[int]
    """Of all rows, fillers included."""
    chosen_P: Tensor
    """int64: places of the chosen positions."""
    counts: list[int]
    """Chosen positions of each adapter."""


def lay_out(parts: Sequence[AdapterRows]) -> Layout:
    """Rows end to end, adapter after adapter."""
    places, longest = max(int(part.lengths_B.sum()) for part in parts), max(int(part.lengths_B.max()) for part in parts)
    ids, lengths, chosen = [], [], []
    for number, part in enumerate(parts):
        own = part.lengths_B.tolist()
        starts_B = torch.cumsum(part.lengths_B, 0) - part.lengths_B
        ids += [row[:length] for row, length in zip(part.ids_BT, own, strict=True)]
        lengths += own
        empty = places - sum(own)
        ids.append(ids[-1].new_zeros(empty))
        lengths += [min(longest, empty - at) for at in range(0, empty, longest)]
        chosen.append(number * places + starts_B[part.rows_N] + part.columns_N)
    return Layout(torch.cat(ids), lengths, torch.cat(chosen), [len(part.rows_N) for part in parts])


class Stacked:
    """The adapters of a decoding step, stacked; kept for the next token of the same ones."""

    def __init__(self) -> None:
        self._last: tuple[list[tuple[LayerAdapter, ...]], tuple[JoinedLayer, ...]] | None = None

    def of(self, adapters: Sequence[DecoderAdapter]) -> tuple[JoinedLayer, ...]:
        """For each layer; as each adapter's own fused form was made last. Without gradients."""
        fused = [adapter.layers(reuse=True) for adapter in adapters]
        same = self._last is not None and len(fused) == len(self._last[0])
        if self._last is None or not same or any(a is not b for a, b in zip(fused, self._last[0], strict=True)):
            self._last = fused, joined_layers(adapters)
        return self._last[1]


def joined_layers(adapters: Sequence[DecoderAdapter]) -> tuple[JoinedLayer, ...]:
    """The fused form of all adapters for each layer; differentiable."""
    num_layers, per_group = adapters[0].num_layers, []
    for group in zip(*(adapter.fused() for adapter in adapters), strict=True):
        known = [fused for fused in group if fused is not None]
        if not known:
            per_group.append([None] * num_layers)
            continue
        most = max(fused.a_LKi.shape[1] for fused in known)
        none = known[0].a_LKi.new_zeros(known[0].a_LKi.shape), known[0].b_LoK.new_zeros(known[0].b_LoK.shape)
        pairs = [none if fused is None else (fused.a_LKi, fused.b_LoK) for fused in group]
        a_LMKi = torch.stack([F.pad(a, (0, 0, 0, most - a.shape[1])) for a, _ in pairs], dim=1)
        b_LMoK = torch.stack([F.pad(b, (0, most - b.shape[2])) for _, b in pairs], dim=1)
        per_group.append([Joined(a, b) for a, b in zip(a_LMKi.unbind(0), b_LMoK.unbind(0), strict=True)])
    return tuple(JoinedLayer(*lows) for lows in zip(*per_group, strict=True))
