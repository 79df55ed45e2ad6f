"""LoRA for the decoder (Hu et al. 2021, arXiv:2106.09685), and DoRA with it, in PEFT's numbers and files.

What it does: parameters, start values, conversion from and to PEFT's names. What it does not: multiply; the layers do, with the fused
form made here; find the lengths that DoRA learns (``dora.py`` does). Called by ``decoder.py``.

The parameters of all layers are stacked (axis L), so that an optimiser meets eleven tensors (fifteen with DoRA) and not hundreds. A pair
fused in one matrix (q, k, v or gate, up) shares one stacked A; its B parts stand on the diagonal of one block matrix, which is built once
per call. Projections that the adapter does not adapt have no parameters: their rows of the block matrix are zero, and a group without any
is left out.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from luthier.core.errors import InvalidRequest
from luthier.models.adapter_form import PLAIN, AdapterForm
from luthier.models.decoder_config import DecoderConfig
from luthier.models.decoder_layer import LayerAdapter, LowRank
from luthier.models.decoder_weights import DecoderWeights
from luthier.models.dora import Magnitudes
from luthier.models.matrix import Matrix
from luthier.models.peft_files import MAGNITUDE, AdapterFiles, read_adapter, write_adapter
from luthier.models.probe import relative_change

_NARROW_GRAIN = 16
"""A CPU multiplies bfloat16 sixteen columns at a time, fewer in the same time; and adapters of other ranks beside each other share its
routines for products, each of which takes most of a megabyte for good."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Projections fused in one matrix of the decoder: their names in the files, their outputs, their common input."""

    module: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    input_size: int
    adapted: tuple[int, ...] = ()
    """Which of them have an adapter."""

    def among(self, targets: tuple[str, ...]) -> "_Group":
        """The group with those adapted that ``targets`` names; all of them without any."""
        wanted = {target.rpartition(".")[2] for target in targets}
        return replace(self, adapted=tuple(i for i, name in enumerate(self.names) if not targets or name in wanted))


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """One group of projections in all layers, in the base's number format."""

    a_LKi: Tensor
    """(L, K, in): K = adapted * r, and zeros up to a multiple of 16 where that is no dearer."""
    b_LoK: Tensor
    """(L, out, K), scaled."""
    gains: Sequence[Tensor | None]
    """See ``LowRank.gain``; one for each layer."""


def _groups(c: DecoderConfig) -> tuple[_Group, ...]:
    return (
        _Group("self_attn", ("q_proj", "k_proj", "v_proj"), (c.q_size, c.kv_size, c.kv_size), c.hidden_size),
        _Group("self_attn", ("o_proj",), (c.hidden_size,), c.q_size),
        _Group("mlp", ("gate_proj", "up_proj"), (c.mlp_size, c.mlp_size), c.hidden_size),
        _Group("mlp", ("down_proj",), (c.hidden_size,), c.mlp_size),
    )


def _matrices(weights: DecoderWeights) -> tuple[list[Matrix], ...]:
    """Of each group, the fused matrix of every layer."""
    return tuple([getattr(block, name) for block in weights.blocks] for name in ("qkv", "o", "gate_up", "down"))


def _parameter(*shape: int, device: torch.device) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape, dtype=torch.float32, device=device))


class DecoderAdapter:
    """One adapter on one decoder."""

    def __init__(self, config: DecoderConfig, weights: DecoderWeights, *, rank: int, alpha: float, form: AdapterForm = PLAIN) -> None:
        """All zeros, and the base's own lengths; ``fresh`` and ``load`` fill it. The fused form is cast to the base's number format."""
        if rank < 1 or alpha <= 0:
            raise InvalidRequest("The rank and alpha of an adapter must be positive.")
        self.rank, self.alpha, self.form = rank, alpha, form
        self._scale = alpha / math.sqrt(rank) if form.rslora else alpha / rank
        device, self._dtype = weights.embedding.device, weights.embedding.dtype
        self._grain = _NARROW_GRAIN if device.type == "cpu" and self._dtype == torch.bfloat16 else 1
        self._config, self._weights = config, weights
        self._groups = tuple(group.among(form.targets) for group in _groups(config))
        if not any(group.adapted for group in self._groups):
            raise InvalidRequest(f"The base model has no layer to adapt among {', '.join(form.targets)}.")
        n = config.num_layers
        # A group without an adapted projection has a matrix of no rows, which is no parameter.
        self._a = [_parameter(n, len(g.adapted) * rank, g.input_size, device=device) for g in self._groups]
        self._b = [[_parameter(n, g.sizes[i], rank, device=device) for i in g.adapted] for g in self._groups]
        self._magnitudes: list[Magnitudes | None] = [
            Magnitudes(matrices, g.sizes, g.adapted, g.names) if form.dora and g.adapted else None
            for g, matrices in zip(self._groups, _matrices(weights), strict=True)
        ]
        self._fused: tuple[LayerAdapter, ...] | None = None

    @classmethod
    def fresh(
        cls,
        config: DecoderConfig,
        weights: DecoderWeights,
        *,
        rank: int,
        alpha: float,
        seed: int,
        form: AdapterForm = PLAIN,
    ) -> "DecoderAdapter":
        """A Kaiming uniform with PEFT's slope, B zero: the model's function is unchanged at first."""
        adapter = cls(config, weights, rank=rank, alpha=alpha, form=form)
        generator = torch.Generator().manual_seed(seed)
        for group, a in zip(adapter._groups, adapter._a, strict=True):
            bound = 1.0 / math.sqrt(group.input_size)
            a.data.copy_(torch.rand(a.shape, generator=generator).mul_(2 * bound).sub_(bound))
        return adapter

    @classmethod
    def load(cls, config: DecoderConfig, weights: DecoderWeights, folder: Path) -> "DecoderAdapter":
        """Read PEFT's files. Projections that the adapter does not have stay without one when it is trained on.

        Raises:
            InvalidRequest: see ``peft_files.read_adapter``; or a tensor does not belong to this decoder or has another shape.
        """
        files = read_adapter(folder)
        if not files.tensors:
            raise InvalidRequest("The adapter holds no weights.")
        known = {name for group in _groups(config) for name in group.names}
        named = {key.rsplit(".lora_", 1)[0].rpartition(".")[2] for key in files.tensors}
        form = AdapterForm(rslora=files.rslora, dora=files.dora, targets=tuple(sorted(named)) if named < known else ())
        adapter = cls(config, weights, rank=files.rank, alpha=files.alpha, form=form)
        places = dict(adapter._places())
        for name, tensor in files.tensors.items():
            if name not in places:
                raise InvalidRequest(f"The adapter adapts {name}, which this base model does not have or does not adapt.")
            if places[name].shape != tensor.shape:
                raise InvalidRequest(
                    f"{name} of the adapter has shape {tuple(tensor.shape)}; this base model needs {tuple(places[name].shape)}."
                )
            places[name].copy_(tensor)
        return adapter

    def save(self, folder: Path, *, base_name: str) -> None:
        """Write PEFT's files into an existing folder."""
        tensors = {name: place.to("cpu", copy=True).contiguous() for name, place in self._places()}
        form, scale = self.form, self._scale
        files = AdapterFiles(rank=self.rank, alpha=self.alpha, scale=scale, rslora=form.rslora, dora=form.dora, tensors=tensors)
        write_adapter(folder, files, base_name=base_name, targets=[g.names[i] for g in self._groups for i in g.adapted])

    @property
    def num_layers(self) -> int:
        """Of the decoder."""
        return self._config.num_layers

    def parameters(self) -> list[nn.Parameter]:
        """All A, then all B, then DoRA's lengths, in a fixed order."""
        lengths = (magnitudes.parameter for magnitudes in self._magnitudes if magnitudes is not None)
        return [*(a for a in self._a if a.numel()), *(b for group in self._b for b in group), *lengths]

    def changes(self) -> list[tuple[str, float]]:
        """How much each adapted matrix is changed, by its name in the files (see ``probe.relative_change``)."""
        found: list[tuple[str, float]] = []
        for layer, block in enumerate(self._weights.blocks):
            fused = (block.qkv, block.o, block.gate_up, block.down)
            for group, a, parts, magnitudes, matrix in zip(self._groups, self._a, self._b, self._magnitudes, fused, strict=True):
                rows = matrix.dense().split(group.sizes)
                lengths = magnitudes.parts(layer) if magnitudes is not None else (None,) * len(parts)
                for at, i in enumerate(group.adapted):
                    own = a.data[layer, at * self.rank : (at + 1) * self.rank]
                    change = relative_change(own, parts[at].data[layer], self._scale, rows[i], lengths[at])
                    found.append((f"model.layers.{layer}.{group.module}.{group.names[i]}", change))
        return found

    def layers(self, *, reuse: bool) -> tuple[LayerAdapter, ...]:
        """The fused form for each layer, differentiable where gradients are enabled.

        Args:
            reuse: take what the last call made, for the next token of a sequence. Otherwise the parameters are read again: a
                fused optimiser changes them without a trace that could be checked here.
        """
        if torch.is_grad_enabled():
            self._fused = None
            return self._fuse()
        if self._fused is None or not reuse:
            with torch.inference_mode(False), torch.no_grad():
                self._fused = self._fuse()
        return self._fused

    def fused(self) -> tuple[Fused | None, ...]:
        """Of each group of projections; None where none is adapted. Differentiable where gradients are enabled."""
        found: list[Fused | None] = []
        for group, a, parts, magnitudes in zip(self._groups, self._a, self._b, self._magnitudes, strict=True):
            if not parts:
                found.append(None)
                continue
            cast, scaled = a.to(self._dtype), (self._block(group, parts) * self._scale).to(self._dtype)
            gains: Sequence[Tensor | None] = (None,) * len(cast)
            if magnitudes is not None:
                own = [(b.detach() * self._scale).to(self._dtype) for b in parts]
                gains = magnitudes.gains(cast, own).to(self._dtype).unbind(0)
            more = -cast.shape[1] % self._grain
            if more:
                cast, scaled = F.pad(cast, (0, 0, 0, more)), F.pad(scaled, (0, more))
            found.append(Fused(cast, scaled, gains))
        return tuple(found)

    def _fuse(self) -> tuple[LayerAdapter, ...]:
        per_group: list[list[LowRank | None]] = []
        for fused in self.fused():
            if fused is None:
                per_group.append([None] * self._config.num_layers)
            else:
                lows = zip(fused.a_LKi.unbind(0), fused.b_LoK.unbind(0), fused.gains, strict=True)
                per_group.append([LowRank(*low) for low in lows])
        return tuple(LayerAdapter(*low) for low in zip(*per_group, strict=True))

    def _block(self, group: _Group, parts: list[nn.Parameter]) -> Tensor:
        """(L, all outputs, adapted * r): each B beside its own part of A, zeros where nothing is adapted."""
        r, n = self.rank, len(parts)
        if n == len(group.names) == 1:
            return parts[0]
        padded = {i: F.pad(b, (at * r, (n - 1 - at) * r)) for at, (i, b) in enumerate(zip(group.adapted, parts, strict=True))}
        num_layers = self._config.num_layers
        return torch.cat(
            [padded[i] if i in padded else parts[0].new_zeros(num_layers, size, n * r) for i, size in enumerate(group.sizes)], dim=1
        )

    def _places(self) -> Iterator[tuple[str, Tensor]]:
        """PEFT's name and the part of a parameter that it stands for (a view that can be written)."""
        for group, a, parts, magnitudes in zip(self._groups, self._a, self._b, self._magnitudes, strict=True):
            for layer in range(self._config.num_layers):
                for at, i in enumerate(group.adapted):
                    base = f"base_model.model.model.layers.{layer}.{group.module}.{group.names[i]}."
                    yield base + "lora_A.weight", a.data[layer, at * self.rank : (at + 1) * self.rank]
                    yield base + "lora_B.weight", parts[at].data[layer]
                    if magnitudes is not None:
                        yield base + MAGNITUDE, magnitudes.parts(layer)[at]
