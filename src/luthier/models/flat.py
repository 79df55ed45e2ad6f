"""One block of the decoder over rows that lie end to end, without padding: the way of GPUs.

What it does: a batch of rows is one line of N tokens; only attention knows where rows begin (block-diagonal, causal), so nothing is
computed for padding. Attention is torch's variable-length FlashAttention (Dao 2023, arXiv:2307.08691) for 16-bit numbers on
CUDA, and row by row through ``scaled_dot_product_attention`` otherwise: the same numbers, for tests and for float32.
What it does not: embed, generate, or write its gradient by hand (``decoder_layer.py`` does, for the short rows of a CPU).
Called by ``decoder.py``.

Axis letters: N tokens of all rows, R rows, H query heads, K key/value heads, D head size.
"""

import functools
import inspect
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from luthier.models.decoder_config import DecoderConfig
from luthier.models.decoder_layer import LayerAdapter, LowRank, rotate
from luthier.models.decoder_weights import LayerWeights
from luthier.models.matrix import linear
from luthier.models.nf4 import Nf4Weight

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch before 2.10
    varlen_attn = None  # type: ignore[assignment]

_VARLEN_OPTIONS = frozenset(inspect.signature(varlen_attn).parameters) if varlen_attn is not None else frozenset()

_Attention = tuple[Tensor, Tensor | Nf4Weight, Tensor | None, Tensor | None, Tensor | None]
"""Norm, q, k, v in one, their bias, norms of queries and keys."""
_Mlp = tuple[Tensor | Nf4Weight, Tensor, Tensor | Nf4Weight, Tensor | Nf4Weight]
"""Attention's output, norm, gate and up in one, down."""


class Joined(NamedTuple):
    """The adapters of one fused projection, one for each of M equal parts of the rows."""

    a_MKi: Tensor
    """(M, K, in)."""
    b_MoK: Tensor
    """(M, out, K), scaled."""


@dataclass(frozen=True, slots=True)
class JoinedLayer:
    """Those of one block; None where nothing is adapted."""

    qkv: Joined | None
    o: Joined | None
    gate_up: Joined | None
    down: Joined | None


_Low = LowRank | Joined | None


@dataclass(frozen=True, slots=True)
class FlatFrame:
    """What all blocks of one call share."""

    config: DecoderConfig
    cos_N1D: Tensor
    sin_N1D: Tensor
    lengths: tuple[int, ...]
    """Tokens of each row."""
    starts_R1: Tensor
    """int32: where each row begins, and the end of the last."""
    position_N: Tensor
    """int64: index of each token in the padded batch (row * T + column)."""

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(self.lengths)


def flat_frame(config: DecoderConfig, lengths: list[int], padded: int, cos_TD: Tensor, sin_TD: Tensor) -> FlatFrame:
    """The frame of a batch whose rows have these lengths and were padded to ``padded`` columns."""
    # NumPy: torch wakes all of its threads for a handful of numbers, which took milliseconds beside a GPU.
    device, starts = cos_TD.device, np.concatenate(([0], np.cumsum(lengths)))
    column = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    position = np.repeat(np.arange(len(lengths)) * padded, lengths) + column
    columns, places = torch.from_numpy(column).to(device), torch.from_numpy(position).to(device)
    bounds = torch.from_numpy(starts.astype(np.int32)).to(device)
    return FlatFrame(config, cos_TD[columns][:, None], sin_TD[columns][:, None], tuple(lengths), bounds, places)


def flat_block(
    x_NH: Tensor, layer: LayerWeights, low: LayerAdapter | JoinedLayer | None, frame: FlatFrame, *, compiled: bool = False
) -> Tensor:
    """The block's output (N, h). ``compiled``: what stands before and after attention goes through torch.compile."""
    c = frame.config
    before, after = _compiled() if compiled else (_before, _after)
    q, k, v = before(x_NH, _attention_weights(layer), low.qkv if low else None, (frame.cos_N1D, frame.sin_N1D), _heads(c), c.norm_eps)
    attended = attend(q, k, v, frame).reshape(x_NH.shape[0], c.q_size)
    return after(x_NH, attended, _mlp_weights(layer), (low.o, low.gate_up, low.down) if low else (None, None, None), c.norm_eps)


def _heads(c: DecoderConfig) -> tuple[int, int, int]:
    return c.num_heads, c.num_kv_heads, c.head_dim


def _attention_weights(layer: LayerWeights) -> _Attention:
    return layer.attention_norm, layer.qkv.weight, layer.qkv_bias, layer.q_norm, layer.k_norm


def _mlp_weights(layer: LayerWeights) -> _Mlp:
    return layer.o.weight, layer.mlp_norm, layer.gate_up.weight, layer.down.weight


def _before(
    x: Tensor,
    weights: _Attention,
    low: _Low,
    rotary: tuple[Tensor, Tensor],
    heads: tuple[int, int, int],
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    norm, qkv_weight, qkv_bias, q_norm, k_norm = weights
    num_heads, num_kv_heads, head_dim = heads
    qkv = _project(_norm(x, norm, eps), qkv_weight, low, qkv_bias)
    q, k, v = qkv.view(x.shape[0], -1, head_dim).split((num_heads, num_kv_heads, num_kv_heads), dim=1)
    if q_norm is not None and k_norm is not None:
        q, k = _norm(q, q_norm, eps), _norm(k, k_norm, eps)
    return rotate(q, *rotary), rotate(k, *rotary), v.contiguous()


def _after(x: Tensor, attended: Tensor, weights: _Mlp, lows: tuple[_Low, ...], eps: float) -> Tensor:
    o_weight, norm, gate_up_weight, down_weight = weights
    middle = x + _project(attended, o_weight, lows[0])
    hidden = _norm(middle, norm, eps)
    gate, up = _project(hidden, gate_up_weight, lows[1]).chunk(2, dim=-1)
    return middle + _project(F.silu(gate) * up, down_weight, lows[2])


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """A weight with more bits than ``x`` multiplies it with all of them."""
    if weight.dtype == x.dtype:
        return F.rms_norm(x, (x.shape[-1],), weight, eps)
    return (F.rms_norm(x, (x.shape[-1],), None, eps) * weight).to(x.dtype)


@functools.cache
def _compiled() -> tuple[Any, Any]:
    return torch.compile(_before, dynamic=True), torch.compile(_after, dynamic=True)


def attend(q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor, frame: FlatFrame) -> Tensor:
    """Causal attention within each row; (N, H, D)."""
    if q_NHD.is_cuda and q_NHD.dtype in (torch.bfloat16, torch.float16) and varlen_attn is not None:
        return _varlen(q_NHD, k_NKD, v_NKD, frame)
    rows = []
    shared = frame.config.num_queries_per_kv > 1
    for q, k, v in zip(q_NHD.split(frame.lengths), k_NKD.split(frame.lengths), v_NKD.split(frame.lengths), strict=True):
        query, key, value = (t.transpose(0, 1)[None] for t in (q, k, v))
        rows.append(F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=shared)[0].transpose(0, 1))
    return torch.cat(rows)


def _varlen(q: Tensor, k: Tensor, v: Tensor, frame: FlatFrame) -> Tensor:
    options: dict[str, object] = {"window_size": (-1, 0)} if "window_size" in _VARLEN_OPTIONS else {"is_causal": True}
    # Before torch had this option it took fewer heads of keys than of queries without a word.
    if frame.config.num_queries_per_kv > 1 and "enable_gqa" in _VARLEN_OPTIONS:
        options["enable_gqa"] = True
    assert varlen_attn is not None
    out = varlen_attn(q, k, v, frame.starts_R1, frame.starts_R1, frame.longest, frame.longest, **options)  # type: ignore[arg-type]
    assert isinstance(out, Tensor)
    return out


def with_joined(y: Tensor, x: Tensor, low: Joined) -> Tensor:
    """``y`` = x @ W.T with each adapter's part for its own rows."""
    parts = low.a_MKi.shape[0]
    inner = torch.bmm(x.view(parts, -1, x.shape[-1]), low.a_MKi.mT)
    return torch.baddbmm(y.view(parts, -1, y.shape[-1]), inner, low.b_MoK.mT).view_as(y)


def _project(x: Tensor, weight: Tensor | Nf4Weight, low: _Low, bias: Tensor | None = None) -> Tensor:
    if isinstance(low, Joined):
        return with_joined(linear(x, weight, bias), x, low)
    if low is None or low.gain is None:
        y = linear(x, weight, bias)
        return y if low is None else torch.addmm(y, x @ low.a.t(), low.b.t())
    y = torch.addmm(linear(x, weight), x @ low.a.t(), low.b.t())
    y = torch.addcmul(y, y, low.gain)
    return y if bias is None else y + bias
