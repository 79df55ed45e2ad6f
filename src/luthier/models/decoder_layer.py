"""One block of the decoder: its arithmetic, and its gradient written by hand.

What it does: attention and MLP over rows padded on the right, as few operators as can be. Short rows go through
``BlockFunction``, whose backward pass is written out: on a CPU a step over one short example is mostly the cost of calling operators, and
autograd would call twice as many. Long rows go through ``plain_block``, which autograd differentiates and whose attention keeps no
(T, T) matrix; it is also the text that the tests compare the hand-written gradient with. What it does not: embed, generate, load.
Called by ``decoder.py``.

Axis letters: N = B * T tokens of a batch, H query heads, K key/value heads, G = H / K, D head size, F MLP width.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from luthier.models.decoder_config import DecoderConfig
from luthier.models.decoder_weights import LayerWeights
from luthier.models.matrix import Matrix, linear
from luthier.models.nf4 import Nf4Weight


class LowRank(NamedTuple):
    """The adapter of one fused projection: y = (x @ W.T + (x @ A.T) @ B.T) * (1 + gain)."""

    a: Tensor
    """(r, in)."""
    b: Tensor
    """(out, r), scaled."""
    gain: Tensor | None = None
    """(out,) of DoRA: the length of each row of W' as a share of what it would be, less one. None multiplies nothing."""


class Kept(NamedTuple):
    """What an adapted projection keeps for its gradient."""

    inner: Tensor
    """x @ A.T."""
    short: Tensor | None
    """The output before it grew by the gain, where there is one."""


@dataclass(frozen=True, slots=True)
class LayerAdapter:
    """The low-rank parts of one block; None where nothing is adapted."""

    qkv: LowRank | None
    o: LowRank | None
    gate_up: LowRank | None
    down: LowRank | None

    def tensors(self) -> tuple[Tensor | None, ...]:
        """All twelve, in a fixed order."""
        return tuple(tensor for low in (self.qkv, self.o, self.gate_up, self.down) for tensor in (low or (None, None, None)))


@dataclass(frozen=True, slots=True)
class Frame:
    """What all blocks of one call share."""

    config: DecoderConfig
    batch: int
    length: int
    cos_TD: Tensor
    sin_TD: Tensor
    mask_QT: Tensor
    """(G * T, T): 0 where a query may look, -inf where not."""


def causal_frame(config: DecoderConfig, batch: int, length: int, cos_TD: Tensor, sin_TD: Tensor) -> Frame:
    """The frame of whole rows from position 0."""
    mask = torch.full((length, length), float("-inf"), dtype=cos_TD.dtype, device=cos_TD.device).triu_(1)
    return Frame(config, batch, length, cos_TD, sin_TD, mask.repeat(config.num_queries_per_kv, 1))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions; ``sin`` carries the sign of rotate-half."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def _rotate_back(y: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return (y * sin).roll(y.shape[-1] // 2, -1).addcmul_(y, cos)


def norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """RMS norm; returns output, unit-scale input and its factor. ``weight`` may have more bits than ``x``."""
    wide = x if x.dtype == torch.float32 else x.float()
    factor = wide.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
    unit = wide * factor if x.dtype == torch.float32 else (wide * factor).to(x.dtype)
    return (unit * weight).to(x.dtype), unit, factor


def plain_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The output of ``norm``, in operators that autograd differentiates."""
    wide = x.to(torch.promote_types(x.dtype, weight.dtype))
    return F.rms_norm(wide, (x.shape[-1],), weight, eps).to(x.dtype)


def _norm_back(grad: Tensor, weight: Tensor, unit: Tensor, factor: Tensor) -> Tensor:
    scaled = grad * weight.to(grad.dtype)
    share = (scaled * unit).mean(-1, keepdim=True)
    return torch.addcmul(scaled, unit, share, value=-1).mul_(factor.to(grad.dtype))


def project(x: Tensor, matrix: Matrix, low: LowRank | None) -> tuple[Tensor, Kept | None]:
    return adapted(matrix.times(x), x, low)


def adapted(y: Tensor, x: Tensor, low: LowRank | None) -> tuple[Tensor, Kept | None]:
    """What the adapter makes of ``y`` = x @ W.T, which it may write over, and what its gradient needs."""
    if low is None:
        return y, None
    inner = x @ low.a.t()
    y.addmm_(inner, low.b.t())
    if low.gain is None:
        return y, Kept(inner, None)
    # The gain is added and not multiplied by: in 16-bit numbers one plus a small share would be one.
    return torch.addcmul(y, y, low.gain), Kept(inner, y)


def _project_back(
    grad: Tensor, matrix: Matrix, low: LowRank | None, x: Tensor, kept: Kept | None, *, need_x: bool = True
) -> tuple[Any, ...]:
    """Gradients of x, of x @ W.T, and of A, B and the gain."""
    grad_gain = None
    if low is not None and low.gain is not None and kept is not None and kept.short is not None:
        grad_gain = (grad * kept.short).sum(0)
        grad = torch.addcmul(grad, grad, low.gain)
    grad_x = matrix.back(grad) if need_x else None
    if low is None or kept is None:
        return grad_x, grad, None, None, None
    grad_inner = grad @ low.b
    if grad_x is not None:
        grad_x.addmm_(grad_inner, low.a)
    return grad_x, grad, grad_inner.t() @ x, grad.t() @ kept.inner, grad_gain


@dataclass(slots=True, init=False)
class Tape:
    """What a forward pass keeps for its backward pass."""

    h_attention: Tensor
    h_mlp: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    probabilities: Tensor
    attended: Tensor
    mlp: Tensor
    gated: Tensor
    low_qkv: Kept | None
    low_o: Kept | None
    low_gate_up: Kept | None
    low_down: Kept | None
    norm_attention: tuple[Tensor, Tensor]
    norm_mlp: tuple[Tensor, Tensor]
    q_norm: tuple[Tensor, Tensor] | None
    k_norm: tuple[Tensor, Tensor] | None


def block_forward(x_NH: Tensor, layer: LayerWeights, low: LayerAdapter | None, frame: Frame, tape: Tape) -> Tensor:
    """The block's output; everything that its gradient needs goes onto the tape. Call it without autograd."""
    c, b, t = frame.config, frame.batch, frame.length
    tape.h_attention, *kept = norm(x_NH, layer.attention_norm, c.norm_eps)
    tape.norm_attention = (kept[0], kept[1])
    qkv, tape.low_qkv = project(tape.h_attention, layer.qkv, low.qkv if low else None)
    if layer.qkv_bias is not None:
        qkv += layer.qkv_bias
    heads = qkv.view(b, t, c.num_heads + 2 * c.num_kv_heads, c.head_dim)
    rotary = heads[:, :, : c.num_heads + c.num_kv_heads]
    tape.q_norm = tape.k_norm = None
    if layer.q_norm is not None and layer.k_norm is not None:
        q, *norm_q = norm(rotary[:, :, : c.num_heads], layer.q_norm, c.norm_eps)
        k, *norm_k = norm(rotary[:, :, c.num_heads :], layer.k_norm, c.norm_eps)
        tape.q_norm, tape.k_norm = (norm_q[0], norm_q[1]), (norm_k[0], norm_k[1])
        rotary = torch.cat((q, k), dim=2)
    rotated = rotate(rotary.transpose(1, 2), frame.cos_TD, frame.sin_TD)
    tape.q = rotated[:, : c.num_heads].reshape(b * c.num_kv_heads, c.num_queries_per_kv * t, c.head_dim)
    tape.k = rotated[:, c.num_heads :].reshape(b * c.num_kv_heads, t, c.head_dim)
    tape.v = heads[:, :, c.num_heads + c.num_kv_heads :].transpose(1, 2).reshape(b * c.num_kv_heads, t, c.head_dim)
    scores = torch.baddbmm(frame.mask_QT, tape.q, tape.k.transpose(1, 2), alpha=c.head_dim**-0.5)
    tape.probabilities = torch.softmax(scores, dim=-1, dtype=torch.float32).to(x_NH.dtype)
    attended = torch.bmm(tape.probabilities, tape.v)
    tape.attended = attended.view(b, c.num_heads, t, c.head_dim).transpose(1, 2).reshape(b * t, c.q_size)
    middle, tape.low_o = project(tape.attended, layer.o, low.o if low else None)
    middle += x_NH
    tape.h_mlp, *kept = norm(middle, layer.mlp_norm, c.norm_eps)
    tape.norm_mlp = (kept[0], kept[1])
    tape.mlp, tape.low_gate_up = project(tape.h_mlp, layer.gate_up, low.gate_up if low else None)
    tape.gated = F.silu(tape.mlp[:, : c.mlp_size]).mul_(tape.mlp[:, c.mlp_size :])
    out, tape.low_down = project(tape.gated, layer.down, low.down if low else None)
    return out.add_(middle)


def _attention_back(grad: Tensor, tape: Tape, layer: LayerWeights, frame: Frame) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradient of the fused q, k, v output, and of the two head norms' weights (None without them)."""
    c, b, t = frame.config, frame.batch, frame.length
    d_heads = grad.view(b, t, c.num_heads, c.head_dim).transpose(1, 2).reshape(b * c.num_kv_heads, c.num_queries_per_kv * t, c.head_dim)
    d_scores = torch.ops.aten._softmax_backward_data(torch.bmm(d_heads, tape.v.transpose(1, 2)), tape.probabilities, -1, tape.q.dtype)
    d_scores *= c.head_dim**-0.5
    d_q = torch.bmm(d_scores, tape.k).view(b, c.num_heads, t, c.head_dim)
    d_k = torch.bmm(d_scores.transpose(1, 2), tape.q).view(b, c.num_kv_heads, t, c.head_dim)
    d_v = torch.bmm(tape.probabilities.transpose(1, 2), d_heads).view(b, c.num_kv_heads, t, c.head_dim)
    d_rotary = _rotate_back(torch.cat((d_q, d_k), dim=1), frame.cos_TD, frame.sin_TD).transpose(1, 2)
    d_q_norm = d_k_norm = None
    if tape.q_norm is not None and tape.k_norm is not None and layer.q_norm is not None and layer.k_norm is not None:
        d_q, d_k = d_rotary[:, :, : c.num_heads], d_rotary[:, :, c.num_heads :]
        if layer.q_norm.requires_grad:
            d_q_norm = (d_q * tape.q_norm[0]).sum((0, 1, 2), dtype=torch.float32)
            d_k_norm = (d_k * tape.k_norm[0]).sum((0, 1, 2), dtype=torch.float32)
        d_rotary = torch.cat((_norm_back(d_q, layer.q_norm, *tape.q_norm), _norm_back(d_k, layer.k_norm, *tape.k_norm)), dim=2)
    return torch.cat((d_rotary, d_v.transpose(1, 2)), dim=2).view(b * t, -1), d_q_norm, d_k_norm


def _mlp_back(grad: Tensor, tape: Tape, size: int) -> Tensor:
    """Gradient of the fused gate and up output."""
    gate, up = tape.mlp[:, :size], tape.mlp[:, size:]
    d_mlp = torch.empty_like(tape.mlp)
    torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=d_mlp[:, :size])
    torch.mul(grad, F.silu(gate), out=d_mlp[:, size:])
    return d_mlp


def base_tensors(layer: LayerWeights) -> tuple[Tensor | None, ...]:
    """The block's own weights in the order of ``BlockFunction``'s arguments."""
    w = layer
    return (w.attention_norm, w.qkv_weight, w.qkv_bias, w.q_norm, w.k_norm, w.o_weight, w.mlp_norm, w.gate_up_weight, w.down_weight)


class BlockFunction(torch.autograd.Function):
    """``block_forward`` with its gradient.

    All tensors come as arguments so that autograd sees them: nine base weights, then the adapter's twelve.
    """

    @staticmethod
    def forward(ctx: Any, x_NH: Tensor, layer: LayerWeights, low: LayerAdapter | None, frame: Frame, *_tensors: Tensor | None) -> Tensor:
        """The block's output (N, h)."""
        ctx.tape, ctx.layer, ctx.low, ctx.frame = Tape(), layer, low, frame
        return block_forward(x_NH, layer, low, frame, ctx.tape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients in the order of the arguments."""
        return _block_back(ctx, ctx.tape, grad)


class RecomputedBlock(torch.autograd.Function):
    """``BlockFunction`` that keeps its input alone, and makes the tape once more on the way back: the same numbers, bit for bit."""

    @staticmethod
    def forward(ctx: Any, x_NH: Tensor, layer: LayerWeights, low: LayerAdapter | None, frame: Frame, *_tensors: Tensor | None) -> Tensor:
        """The block's output (N, h)."""
        ctx.layer, ctx.low, ctx.frame = layer, low, frame
        ctx.save_for_backward(x_NH)
        return block_forward(x_NH, layer, low, frame, Tape())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients in the order of the arguments."""
        tape = Tape()
        block_forward(ctx.saved_tensors[0], ctx.layer, ctx.low, ctx.frame, tape)
        return _block_back(ctx, tape, grad)


def _block_back(ctx: Any, tape: Tape, grad: Tensor) -> tuple[Tensor | None, ...]:
    layer, low, frame = ctx.layer, ctx.low, ctx.frame
    need = ctx.needs_input_grad
    c: DecoderConfig = frame.config
    full = any(need[4:13])
    d_gated, d_down, *of_down = _project_back(grad, layer.down, low and low.down, tape.gated, tape.low_down)
    d_mlp = _mlp_back(d_gated, tape, c.mlp_size)
    d_h_mlp, d_mlp, *of_gate_up = _project_back(d_mlp, layer.gate_up, low and low.gate_up, tape.h_mlp, tape.low_gate_up)
    d_middle = _norm_back(d_h_mlp, layer.mlp_norm, *tape.norm_mlp).add_(grad)
    d_attended, d_o, *of_o = _project_back(d_middle, layer.o, low and low.o, tape.attended, tape.low_o)
    d_qkv, d_q_norm, d_k_norm = _attention_back(d_attended, tape, layer, frame)
    need_x = need[0] or full
    d_h, d_product, *of_qkv = _project_back(d_qkv, layer.qkv, low and low.qkv, tape.h_attention, tape.low_qkv, need_x=need_x)
    d_x = _norm_back(d_h, layer.attention_norm, *tape.norm_attention).add_(d_middle) if need[0] else None
    own: tuple[Tensor | None, ...] = (None,) * 9
    if full:
        own = (
            (d_h * tape.norm_attention[0]).sum(0, dtype=torch.float32),
            d_product.t() @ tape.h_attention,
            d_qkv.sum(0, dtype=torch.float32) if layer.qkv_bias is not None else None,
            d_q_norm,
            d_k_norm,
            d_o.t() @ tape.attended,
            (d_h_mlp * tape.norm_mlp[0]).sum(0, dtype=torch.float32),
            d_mlp.t() @ tape.h_mlp,
            d_down.t() @ tape.gated,
        )
    return (d_x, None, None, None, *own, *((*of_qkv, *of_o, *of_gate_up, *of_down) if low is not None else ()))


def _plain_project(x: Tensor, weight: Tensor | Nf4Weight, low: LowRank | None, bias: Tensor | None = None) -> Tensor:
    if low is None or low.gain is None:
        y = linear(x, weight, bias)
        return y if low is None else y + (x @ low.a.t()) @ low.b.t()
    y = linear(x, weight) + (x @ low.a.t()) @ low.b.t()
    y = torch.addcmul(y, y, low.gain)
    return y if bias is None else y + bias


def plain_block(x_NH: Tensor, layer: LayerWeights, low: LayerAdapter | None, frame: Frame) -> tuple[Tensor, Tensor, Tensor]:
    """The same block in ordinary operators; returns output, keys and values (B, K, T, D). ``frame.mask_QT`` is not read."""
    c, b, t = frame.config, frame.batch, frame.length
    hidden = plain_norm(x_NH, layer.attention_norm, c.norm_eps)
    qkv = _plain_project(hidden, layer.qkv.weight, low.qkv if low else None, layer.qkv_bias)
    q, k, v = qkv.view(b, t, -1, c.head_dim).split((c.num_heads, c.num_kv_heads, c.num_kv_heads), dim=2)
    if layer.q_norm is not None and layer.k_norm is not None:
        q = plain_norm(q, layer.q_norm, c.norm_eps)
        k = plain_norm(k, layer.k_norm, c.norm_eps)
    q, k = rotate(q.transpose(1, 2), frame.cos_TD, frame.sin_TD), rotate(k.transpose(1, 2), frame.cos_TD, frame.sin_TD)
    v = v.transpose(1, 2)
    attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=c.num_queries_per_kv > 1)
    middle = x_NH + _plain_project(attended.transpose(1, 2).reshape(b * t, c.q_size), layer.o.weight, low.o if low else None)
    hidden = plain_norm(middle, layer.mlp_norm, c.norm_eps)
    gate, up = _plain_project(hidden, layer.gate_up.weight, low.gate_up if low else None).chunk(2, dim=-1)
    return middle + _plain_project(F.silu(gate) * up, layer.down.weight, low.down if low else None), k, v
