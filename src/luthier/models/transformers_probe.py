"""A look into any model of transformers: hooks on its blocks, and its own last steps as the lens. Called by ``transformers_model.py``.

What it does: one forward with hooks that keep what enters and leaves each block and its parts; then, for each block, the model's own
way from its last block to its logits, with the blocks themselves passed by, so that norm, head, scales and soft caps are those of the
family without knowing any of them. What it does not: guess; the share of attention is told only where attention plus MLP is found to be
the whole update.

Axis letters: T tokens, N traced positions, h width, V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from luthier.models.probe import LensRows, Probe, best, mean_norm, rows_at_once

_ATTENTION = ("self_attn", "attn", "attention")
_MIXERS = (*_ATTENTION, "conv")
_MLPS = ("mlp", "feed_forward", "block_sparse_moe", "fc2")
_AFTER_ATTENTION, _AFTER_MLP = "post_attention_layernorm", "post_feedforward_layernorm"
_WHOLE = 1e-2
"""Attention plus MLP may differ from the block's update by this share of it: rounding of 16-bit numbers."""

Run = Callable[[Tensor], Tensor]
"""ids (1, T) -> logits (1, T, V) with the wanted adapter."""


@dataclass(slots=True, eq=False)
class _Block:
    """What one block did."""

    before: Tensor | None = None
    after: Tensor | None = None
    output: Any = None
    parts: dict[str, Tensor] = field(default_factory=dict)


def blocks_of(model: Any, num_layers: int) -> nn.ModuleList | None:
    """The list of the language model's blocks: the first list of that length inside its decoder."""
    lists = (m for m in model.get_decoder().modules() if isinstance(m, nn.ModuleList))
    return next((found for found in lists if len(found) == num_layers), None)


def _first(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    return next((v for v in value if isinstance(v, Tensor)), None) if isinstance(value, tuple | list) else None


@contextmanager
def _watching(blocks: nn.ModuleList, seen: list[_Block]) -> Iterator[None]:
    """Within the block of ``with`` every forward writes down what it does."""

    def enters(at: _Block) -> Callable[..., None]:
        def hook(_m: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            hidden = arguments[0] if arguments else named["hidden_states"]
            at.before = hidden.flatten(0, -2)

        return hook

    def leaves(at: _Block) -> Callable[..., None]:
        def hook(_m: nn.Module, _arguments: Any, output: Any) -> None:
            hidden = _first(output)
            assert hidden is not None
            at.output, at.after = output, hidden.flatten(0, -2)

        return hook

    def part(at: _Block, name: str) -> Callable[..., None]:
        def hook(_m: nn.Module, _arguments: Any, output: Any) -> None:
            found = _first(output)
            if found is not None:
                at.parts[name] = found.flatten(0, -2)

        return hook

    with ExitStack() as stack:
        for block, at in zip(blocks, seen, strict=True):
            handles = [block.register_forward_pre_hook(enters(at), with_kwargs=True), block.register_forward_hook(leaves(at))]
            for name, child in block.named_children():
                if name in (*_MIXERS, *_MLPS, _AFTER_ATTENTION, _AFTER_MLP):
                    handles.append(child.register_forward_hook(part(at, name)))
            for handle in handles:
                stack.callback(handle.remove)
        yield


def _updates(at: _Block, scale: float) -> tuple[Tensor, Tensor] | None:
    """What attention and MLP added; None where no pair of parts makes up the whole update."""
    assert at.before is not None
    assert at.after is not None
    whole = (at.after - at.before).float()
    for a in (*_MIXERS, _AFTER_ATTENTION):
        for m in (*_MLPS, _AFTER_MLP):
            if a not in at.parts or m not in at.parts:
                continue
            attention, mlp = at.parts[a].float() * scale, at.parts[m].float() * scale
            if attention.shape == whole.shape == mlp.shape and float((whole - attention - mlp).norm()) <= _WHOLE * float(whole.norm()):
                return attention, mlp
    return None


@contextmanager
def _passed_by(blocks: nn.ModuleList, seen: list[_Block], hidden_Nh: Tensor) -> Iterator[None]:
    """Within the block of ``with`` the model's last block hands out ``hidden_Nh`` and the others do nothing."""

    def instead(at: _Block) -> Callable[..., Any]:
        def forward(*_arguments: Any, **_named: Any) -> Any:
            hidden = hidden_Nh[None]
            return hidden if isinstance(at.output, Tensor) else type(at.output)((hidden, *at.output[1:]))

        return forward

    for block, at in zip(blocks, seen, strict=True):
        block.forward = instead(at)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _attention(model: Any, block: nn.Module, run: Run, ids_1T: Tensor) -> Tensor | None:
    """(H, T, T) weights of one block, by the plain form of attention: the fused ones tell none."""
    module = next((child for name, child in block.named_children() if name in _ATTENTION), None)
    if module is None:
        return None
    kept: list[Tensor] = []

    def hook(_m: nn.Module, _arguments: Any, output: Any) -> None:
        size = ids_1T.shape[1]
        found = [v for v in output[1:] if isinstance(v, Tensor)] if isinstance(output, tuple | list) else []
        kept.extend(v[0] for v in found if v.dim() == 4 and v.shape[-2:] == (size, size))

    before = model.config._attn_implementation
    handle = module.register_forward_hook(hook)
    try:
        model.set_attn_implementation("eager")
        run(ids_1T)
    finally:
        handle.remove()
        model.set_attn_implementation(before)
    return kept[0] if kept else None


def probe_model(
    model: Any,
    run: Run,
    switched: Callable[[], AbstractContextManager[None]],
    ids_1T: Tensor,
    positions_N: Tensor,
    *,
    num_layers: int,
    vocab_size: int,
    attention_layer: int | None,
) -> Iterator[Probe | None]:
    """None after each piece of work, and last the probe; nothing at all where the blocks cannot be found.

    Args:
        model: of transformers.
        run: its forward; called within ``switched``.
        switched: puts the wanted adapter in place.
        ids_1T: the row.
        positions_N: the traced places.
        num_layers: of the config.
        vocab_size: of the config.
        attention_layer: the block whose attention is wanted.
    """
    blocks = blocks_of(model, num_layers)
    if blocks is None:
        return
    seen = [_Block() for _ in blocks]
    with torch.inference_mode(), switched(), _watching(blocks, seen):
        run(ids_1T)
    yield None
    first = seen[0].before
    assert first is not None
    rows, attention = LensRows(), None
    scale = float(getattr(model.config.get_text_config(decoder=True), "residual_multiplier", None) or 1.0)
    for at in seen:
        assert at.after is not None
        with torch.inference_mode(), switched():
            hidden_Nh = at.after[positions_N]
            rows.residual.append(mean_norm(hidden_Nh))
            updates = _updates(at, scale)
            if updates is not None:
                rows.attention.append(mean_norm(updates[0][positions_N]))
                rows.mlp.append(mean_norm(updates[1][positions_N]))
            pairs: list[tuple[Tensor, Tensor]] = []
            for piece in hidden_Nh.split(rows_at_once(vocab_size)):
                with _passed_by(blocks, seen, piece):
                    pairs.append(best(run(ids_1T[:, : piece.shape[0]])[0]))
            rows.top.append(torch.cat([ids for ids, _ in pairs]))
            rows.probability.append(torch.cat([probability for _, probability in pairs]))
        yield None
    if attention_layer is not None:
        with torch.inference_mode(), switched():
            attention = _attention(model, blocks[attention_layer], run, ids_1T)
        yield None
    yield rows.probe(first.norm(dim=-1), attention)
