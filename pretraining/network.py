"""The network in the form that pre-training wants: a Llama (Touvron and others, 2023), fp32 master weights, bf16 arithmetic.

Weights are kept in fp32 and cast once a step; every matrix product runs in bf16 (in fp32 on processors that are slow at bf16),
norms, softmax and loss in fp32. Attention never
looks past ``<|endoftext|>``, so that a row reads as if it stood alone: that is how it will be fine-tuned and served.
The product's own decoder is for tuning and serving; ``export.py`` brings these weights to it. Called by ``train.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretraining.tokenizer import END_OF_TEXT

_INIT_STD = 0.02
_LONGEST = 512
_LOSS_ROWS = 1024
"""Rows of logits that exist at the same time on a CPU; a GPU takes more."""
_LOSS_ROWS_CUDA = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of the network, with the names of ``config.json``."""

    vocab_size: int = 8192
    hidden_size: int = 256
    num_hidden_layers: int = 8
    num_attention_heads: int = 4
    intermediate_size: int = 704
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0


class Layer(nn.Module):
    """Attention and SwiGLU, each after an RMSNorm. Names of the weights as in transformers' Llama."""

    def __init__(self, shape: Shape, arithmetic: torch.dtype, dropout: float) -> None:
        super().__init__()
        self.arithmetic = arithmetic
        self.dropout = dropout
        width, inner = shape.hidden_size, shape.intermediate_size
        self.num_heads = shape.num_attention_heads
        self.eps = shape.rms_norm_eps
        self.input_norm = nn.Parameter(torch.ones(width))
        self.post_norm = nn.Parameter(torch.ones(width))
        self.q = _matrix(width, width)
        self.k = _matrix(width, width)
        self.v = _matrix(width, width)
        self.o = _matrix(width, width, shape.num_hidden_layers)
        self.gate = _matrix(inner, width)
        self.up = _matrix(inner, width)
        self.down = _matrix(width, inner, shape.num_hidden_layers)

    def forward(self, x_BTC: Tensor, cos_TD: Tensor, sin_TD: Tensor, hidden_B1TT: Tensor) -> Tensor:
        """``[batch, time, width]`` to the same; ``hidden_B1TT`` is true where a query must not look."""
        batch, time, width = x_BTC.shape
        h_BTC = _norm(x_BTC, self.input_norm, self.eps).to(self.arithmetic)
        qkv = F.linear(h_BTC, torch.cat([self.q, self.k, self.v]).to(h_BTC.dtype)).view(batch, time, 3, self.num_heads, -1)
        q_BHTD, k_BHTD, v_BHTD = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q_BHTD, k_BHTD = _rotate(q_BHTD, cos_TD, sin_TD), _rotate(k_BHTD, cos_TD, sin_TD)
        scores = (q_BHTD @ k_BHTD.transpose(-1, -2)).float() * (q_BHTD.shape[-1] ** -0.5)
        weights = scores.masked_fill(hidden_B1TT, float("-inf")).softmax(-1).to(v_BHTD.dtype)
        mixed_BTC = (weights @ v_BHTD).transpose(1, 2).reshape(batch, time, width)
        x_BTC = x_BTC + self._dropped(F.linear(mixed_BTC, self.o.to(mixed_BTC.dtype)))
        h_BTC = _norm(x_BTC, self.post_norm, self.eps).to(self.arithmetic)
        gate, up = F.linear(h_BTC, torch.cat([self.gate, self.up]).to(h_BTC.dtype)).chunk(2, -1)
        return x_BTC + self._dropped(F.linear(F.silu(gate) * up, self.down.to(h_BTC.dtype)))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout) if self.dropout and self.training else x


class Network(nn.Module):
    """Token ids to the last hidden state; the output matrix is the embedding (tied)."""

    def __init__(self, shape: Shape, seed: int, arithmetic: torch.dtype = torch.bfloat16, dropout: float = 0.0) -> None:
        """``dropout``: share of what a layer adds that is left out while it trains (Srivastava et al. 2014)."""
        super().__init__()
        torch.manual_seed(seed)
        self.shape = shape
        self.arithmetic = arithmetic
        self.embedding = nn.Parameter(torch.empty(shape.vocab_size, shape.hidden_size).normal_(std=_INIT_STD))
        self.layers = nn.ModuleList(Layer(shape, arithmetic, dropout) for _ in range(shape.num_hidden_layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden_size))
        # Made once: inside the compiled network they would be computed again for every element.
        cos_TD, sin_TD = rotary(_LONGEST, shape)
        self.register_buffer("cos_TD", cos_TD, persistent=False)
        self.register_buffer("sin_TD", sin_TD, persistent=False)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Ids to hidden states ``[batch, time, width]`` in the network's arithmetic, after the last norm."""
        time = ids_BT.shape[1]
        cos_TD, sin_TD = self.get_buffer("cos_TD")[:time], self.get_buffer("sin_TD")[:time]
        # Row number of every position: the end mark still belongs to the row that it ends.
        ends_BT = (ids_BT == END_OF_TEXT).long()
        row_BT = ends_BT.cumsum(1) - ends_BT
        ahead_TT = torch.ones(time, time, dtype=torch.bool, device=ids_BT.device).triu(1)
        hidden_B1TT = (ahead_TT | (row_BT[:, :, None] != row_BT[:, None, :]))[:, None]
        x_BTC = F.embedding(ids_BT, self.embedding)
        for layer in self.layers:
            x_BTC = layer(x_BTC, cos_TD, sin_TD, hidden_B1TT)
        return _norm(x_BTC, self.norm, self.shape.rms_norm_eps).to(self.arithmetic)


def _matrix(rows: int, columns: int, depth: int | None = None) -> nn.Parameter:
    std = _INIT_STD if depth is None else _INIT_STD / (2 * depth) ** 0.5
    return nn.Parameter(torch.empty(rows, columns).normal_(std=std))


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def rotary(time: int, shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines of RoPE (Su et al. 2021), ``[time, head size]``, halves repeated as in transformers."""
    size = shape.hidden_size // shape.num_attention_heads
    frequencies = shape.rope_theta ** (-torch.arange(0, size, 2).float() / size)
    angles = torch.outer(torch.arange(time).float(), frequencies)
    angles = torch.cat([angles, angles], -1)
    return angles.cos(), angles.sin()


def _rotate(x: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], -1)
    return (x.float() * cos_TD + turned.float() * sin_TD).to(x.dtype)


def chunk_gradient(logits_NV: Tensor, targets_N: Tensor, counted_N: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the counted losses of some rows, and the gradient of that sum by the logits, in the logits' own type."""
    logits = logits_NV.float()
    top = logits.amax(-1, keepdim=True)
    exponents = (logits - top).exp()
    total = exponents.sum(-1, keepdim=True)
    picked = logits.gather(-1, targets_N[:, None])
    loss = ((total.log() + top - picked).squeeze(-1) * counted_N).sum()
    hits = torch.arange(logits.shape[-1], device=logits.device)[None, :] == targets_N[:, None]
    gradient = (exponents / total - hits.float()) * counted_N[:, None]
    return loss, gradient.to(logits_NV.dtype)


class FusedLoss(torch.autograd.Function):
    """Output matrix and cross-entropy in one: logits exist for a few rows at a time, and the gradient is made on the way forward."""

    @staticmethod
    def forward(
        ctx: Any, hidden_NC: Tensor, embedding_VC: Tensor, targets_N: Tensor, counted_N: Tensor, chunk: Callable[..., tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Mean loss over the counted rows."""
        weight = embedding_VC.to(hidden_NC.dtype)
        rows = _LOSS_ROWS_CUDA if hidden_NC.is_cuda else _LOSS_ROWS
        d_hidden, d_weight = torch.empty_like(hidden_NC), torch.zeros_like(embedding_VC)
        loss = torch.zeros((), device=hidden_NC.device)
        for start in range(0, len(hidden_NC), rows):
            part = slice(start, start + rows)
            piece, gradient = chunk(F.linear(hidden_NC[part], weight), targets_N[part], counted_N[part])
            loss += piece
            d_hidden[part] = gradient @ weight
            d_weight += gradient.T @ hidden_NC[part]
        number = counted_N.sum()
        ctx.save_for_backward(d_hidden, d_weight, number)
        return loss / number

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """The gradients made before, times the incoming one."""
        d_hidden, d_weight, number = ctx.saved_tensors
        scale = grad_outputs[0] / number
        return d_hidden * scale.to(d_hidden.dtype), d_weight * scale, None, None, None
