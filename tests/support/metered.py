"""What a step would take of a card's memory: it is run on torch's device without numbers (``meta``), and what lives is added up.

What it does: a decoder without weights, a meter of live storages, and stand-ins for two of a GPU's own kernels, which keep and allocate
what those do. What it does not: know a kernel's hidden work space, the allocator's rounding beyond 512 bytes, or holes.
"""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from luthier.models import decoder, flat
from luthier.models.adapter_form import PLAIN, AdapterForm
from luthier.models.decoder import DecoderModel
from luthier.models.decoder_config import parse
from luthier.models.decoder_weights import DecoderWeights
from luthier.models.facts import facts_of_config
from luthier.training.work import ModelShape, shape_of

_GRAIN = 512
"""Torch's memory of a GPU hands out multiples of it."""

QWEN = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 32_000,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "attention_bias": False,
}
LLAMA = {
    **QWEN,
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_attention_heads": 12,
    "head_dim": 64,
    "tie_word_embeddings": False,
}
QWEN_8B = {
    **QWEN,
    "hidden_size": 4096,
    "intermediate_size": 12_288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 151_936,
    "tie_word_embeddings": False,
}
QWEN_06B = {
    **QWEN_8B,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "tie_word_embeddings": True,
}


class Meter(TorchDispatchMode):
    """Bytes of the tensors that live, and the most of them at any time. ``known`` tensors count as nothing."""

    def __init__(self, known: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes = {tensor.untyped_storage()._cdata: 0 for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.is_meta:
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = -(-storage.nbytes() // _GRAIN) * _GRAIN
        self.now += self._sizes[key]
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


class _FusedNorm(torch.autograd.Function):
    """As CUDA's: keeps its input and one float32 for each row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, x.new_empty((*x.shape[:-1], 1), dtype=torch.float32))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:  # type: ignore[override]
        x, weight, _ = ctx.saved_tensors
        return torch.empty_like(x), torch.empty_like(weight) if ctx.needs_input_grad[1] else None


class _Flash(torch.autograd.Function):
    """As FlashAttention's: keeps q, k, v, the output and one float32 a head and token; sums of q in float32 and keys spread over all heads
    on the way back."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:2], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        q, k, v, *_ = ctx.saved_tensors
        space = torch.empty_like(q, dtype=torch.float32), torch.empty_like(q), torch.empty_like(q)
        found = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        del space
        return found


@contextmanager
def card_kernels() -> Iterator[None]:
    """A GPU's kernels in place of those that a device without numbers has. Attention of 16-bit numbers alone is FlashAttention."""
    ordinary = flat.attend

    def attend(q: Tensor, k: Tensor, v: Tensor, frame: flat.FlatFrame) -> Tensor:
        if q.dtype == torch.float32:
            return ordinary(q, k, v, frame)
        out = _Flash.apply(q, k, v)
        assert isinstance(out, Tensor)
        return out

    with (
        mock.patch.object(flat, "attend", attend),
        mock.patch.object(torch.nn.functional, "rms_norm", lambda x, _shape, weight, _eps: _FusedNorm.apply(x, weight)),
    ):
        yield


def weightless(config: dict[str, Any], dtype: torch.dtype) -> tuple[DecoderModel, ModelShape]:
    """A decoder on the device without numbers, reading rows as on a GPU, and its shape."""
    known = parse(config)
    assert known is not None

    def empty(_folder: Path, config: Any, *, dtype: torch.dtype, device: str, packed: bool = False) -> DecoderWeights:
        return DecoderWeights(config, dtype, device)

    facts = facts_of_config(config, num_parameters=0, dtype="bfloat16", revision="")
    with mock.patch.object(decoder, "read_weights", empty):
        model = DecoderModel(Path("nowhere"), known, facts, device="meta", dtype=dtype)
    count = sum(parameter.numel() for parameter in model.all_parameters())
    model.facts = facts_of_config(config, num_parameters=count, dtype="bfloat16", revision="")
    model.flat = True
    return model, shape_of(config, model.facts)


@dataclass(frozen=True, slots=True)
class Metered:
    """Bytes beside weights and adapter: at most in a step of one forward, and in its forward alone."""

    step: int
    forward: int


def metered_step(
    config: dict[str, Any],
    lengths: Sequence[int],
    trained: int,
    *,
    dtype: torch.dtype = torch.bfloat16,
    rank: int = 0,
    form: AdapterForm = PLAIN,
    recomputed: bool = False,
    pairs: bool = False,
    mixed: bool = False,
) -> Metered:
    """One forward and backward over rows of these lengths, ``trained`` tokens of each.

    Args:
        config: of the model.
        lengths, trained: of the rows.
        dtype: of the base.
        rank: of an adapter; 0 tunes all weights.
        form: of the adapter.
        recomputed: blocks are made again on the way back.
        pairs: the losses of pairs of answers.
        mixed: bfloat16 between float32 weights.
    """
    model, _ = weightless(config, dtype)
    own = model.all_parameters()
    if rank:
        with mock.patch.object(Tensor, "__bool__", return_value=False):  # whether a row of the base is zero
            model.add_adapter("a", rank=rank, alpha=16.0, seed=0, form=form)
        own += model.adapter_parameters("a")
    else:
        for parameter in own:
            parameter.requires_grad_(True)
    model.recompute, model.narrow = recomputed, mixed
    ids, each = torch.zeros(len(lengths), max(lengths), dtype=torch.int64), torch.tensor(lengths)
    rows = torch.arange(len(lengths)).repeat_interleave(trained)
    columns = torch.cat([torch.arange(length - trained, length) - 1 for length in lengths])
    targets, meter = torch.zeros(len(rows), dtype=torch.int64), Meter(own)
    with card_kernels(), model.use_adapter("a" if rank else None), meter:
        if pairs:
            loss = model.token_losses_at(ids, each, rows, columns, targets)[0].sum()
        else:
            loss, _, _ = model.losses_at(ids, each, rows, columns, targets, torch.ones(len(rows)))
        forward = meter.peak
        loss.backward()
    return Metered(step=meter.peak, forward=forward)
