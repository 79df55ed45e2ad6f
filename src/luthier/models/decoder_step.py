"""One block of the decoder for one new token per slot. No gradients. Called by ``decoder.py``.

Axis letters: B slots, L longest slot, H query heads, K key/value heads, G = H / K, D head size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from luthier.models.decoder_config import DecoderConfig
from luthier.models.decoder_layer import LayerAdapter, project, rotate
from luthier.models.decoder_weights import LayerWeights
from luthier.models.slot_cache import DecodeStep


def step_block(
    x_Bh: Tensor,
    layer: LayerWeights,
    low: LayerAdapter | None,
    config: DecoderConfig,
    step: DecodeStep,
    index: int,
    rotary: tuple[Tensor, Tensor],
) -> Tensor:
    """The block's output (B, h).

    Args:
        x_Bh: input, one token per slot.
        layer: weights.
        low: the active adapter's part, or None.
        config: the decoder's shape.
        step: the reserved positions; keys and values are appended through it.
        index: the block's number.
        rotary: cosine and signed sine (B, 1, D) at the slots' positions.
    """
    c, b = config, x_Bh.shape[0]
    qkv, _ = project(F.rms_norm(x_Bh, (c.hidden_size,), layer.attention_norm, c.norm_eps), layer.qkv, low.qkv if low else None)
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
    attended = F.scaled_dot_product_attention(query, keys, values, attn_mask=step.mask_B11L).reshape(b, c.q_size)
    middle = project(attended, layer.o, low.o if low else None)[0].add_(x_Bh)
    mlp, _ = project(F.rms_norm(middle, (c.hidden_size,), layer.mlp_norm, c.norm_eps), layer.gate_up, low.gate_up if low else None)
    gated = F.silu(mlp[:, : c.mlp_size]).mul_(mlp[:, c.mlp_size :])
    return project(gated, layer.down, low.down if low else None)[0].add_(middle)
