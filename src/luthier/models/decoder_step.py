"""One block of the decoder for one new token per slot. No gradients. Called by ``decoder.py``.

Axis letters: B slots, L longest slot, H query heads, K key/value heads, G = H / K, D head size.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from luthier.models.decoder_config import DecoderConfig
from luthier.models.decoder_layer import LayerAdapter, LowRank, adapted, rotate
from luthier.models.decoder_weights import LayerWeights
from luthier.models.flat import Joined, JoinedLayer, with_joined
from luthier.models.matrix import Matrix
from luthier.models.slot_cache import DecodeStep

RowAdapter = tuple[slice | None, LayerAdapter | JoinedLayer]
"""Some rows of a step, None for all of them, and what is added for these."""


def _project(x: Tensor, matrix: Matrix, lows: Sequence[tuple[slice | None, LowRank | Joined | None]]) -> Tensor:
    """One product for all rows; each adapter's part for its own."""
    y = matrix.times(x)
    for rows, low in lows:
        if isinstance(low, Joined):
            y = with_joined(y, x, low)
        elif rows is None:
            y = adapted(y, x, low)[0]
        else:
            y[rows] = adapted(y[rows], x[rows], low)[0]
    return y


def _attend(query_BKGD: Tensor, keys_BKLD: Tensor, values_BKLD: Tensor, mask_B11L: Tensor | None) -> Tensor:
    """(B, K, G, D). 16-bit numbers on a CPU in float32: torch's kernel for them took 1.2 ms for 40 slots of 100 tokens where widening them
    and attending took 0.37 (four heads of 64, one thread with AVX512-BF16), and 2.0 and 0.78 for 16 slots of 400."""
    if query_BKGD.dtype.itemsize > 2 or query_BKGD.device.type != "cpu":
        return F.scaled_dot_product_attention(query_BKGD, keys_BKLD, values_BKLD, attn_mask=mask_B11L)
    mask = None if mask_B11L is None else mask_B11L.float()
    wide = F.scaled_dot_product_attention(query_BKGD.float(), keys_BKLD.float(), values_BKLD.float(), attn_mask=mask)
    return wide.to(query_BKGD.dtype)


def step_block(
    x_Bh: Tensor,
    layer: LayerWeights,
    lows: Sequence[RowAdapter],
    config: DecoderConfig,
    step: DecodeStep,
    index: int,
    rotary: tuple[Tensor, Tensor],
) -> Tensor:
    """The block's output (B, h).

    Args:
        x_Bh: input, one token per slot.
        layer: weights.
        lows: the adapters' parts; rows that none of them names are the base's.
        config: the decoder's shape.
        step: the reserved positions; keys and values are appended through it.
        index: the block's number.
        rotary: cosine and signed sine (B, 1, D) at the slots' positions.
    """
    c, b = config, x_Bh.shape[0]
    normed = F.rms_norm(x_Bh, (c.hidden_size,), layer.attention_norm, c.norm_eps)
    qkv = _project(normed, layer.qkv, [(rows, low.qkv) for rows, low in lows])
    if layer.qkv_bias is not None:
        qkv += layer.qkv_bias
    heads = qkv.view(b, -1, c.head_dim)
    both = heads[:, : c.num_heads + c.num_kv_heads]
    if layer.q_norm is not None and layer.k_norm is not None:
        q = F.rms_norm(heads[:, : c.num_heads], (c.head_dim,), layer.q_norm, c.norm_eps)
        k = F.rms_norm(both[:, c.num_heads :], (c.head_dim,), layer.k_norm, c.norm_eps)
        both = torch.cat((q, k), dim=1)
    both = rotate(both, *rotary)
    keys, values = step.append(index, both[:, c.num_heads :], heads[:, c.num_heads + c.num_kv_heads :])
    query = both[:, : c.num_heads].reshape(b, c.num_kv_heads, c.num_queries_per_kv, c.head_dim)
    # One query per slot: the queries of a group stand where a row's positions would, so that no key is copied for them.
    attended = _attend(query, keys, values, step.mask_B11L).reshape(b, c.q_size)
    middle = _project(attended, layer.o, [(rows, low.o) for rows, low in lows]).add_(x_Bh)
    normed = F.rms_norm(middle, (c.hidden_size,), layer.mlp_norm, c.norm_eps)
    mlp = _project(normed, layer.gate_up, [(rows, low.gate_up) for rows, low in lows])
    gated = F.silu(mlp[:, : c.mlp_size]).mul_(mlp[:, c.mlp_size :])
    return _project(gated, layer.down, [(rows, low.down) for rows, low in lows]).add_(middle)
