"""The fast path: Llama-like models (Llama, Mistral, Qwen 2 and 3, SmolLM 3) in plain torch, without transformers.

What it does: every method of ``LanguageModel`` for the shapes that ``decoder_config.parse`` accepts, equal to transformers up to the
rounding of float32. What it does not: other architectures. Built by ``load.py``.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from luthier.core.errors import InvalidRequest
from luthier.models.adapter_form import PLAIN, AdapterForm
from luthier.models.companions import copy_companions
from luthier.models.decoder_config import DecoderConfig, rotary_tables
from luthier.models.decoder_layer import (
    BlockFunction,
    Frame,
    LayerAdapter,
    RecomputedBlock,
    Tape,
    base_tensors,
    block_forward,
    causal_frame,
    plain_block,
    plain_norm,
)
from luthier.models.decoder_probe import probe_blocks
from luthier.models.decoder_step import RowAdapter, step_block
from luthier.models.decoder_weights import read_weights, write_weights
from luthier.models.facts import ModelFacts
from luthier.models.flat import FlatFrame, JoinedLayer, flat_block, flat_frame
from luthier.models.language_model import AdapterRows, Cache, LanguageModel, token_losses
from luthier.models.linear_cross_entropy import CHUNK_NUMBERS, head_losses
from luthier.models.lora import DecoderAdapter
from luthier.models.matrix import Matrix, linear
from luthier.models.nf4 import NOT_SAVED
from luthier.models.probe import Probe
from luthier.models.row_counts import even_rows
from luthier.models.slot_cache import SlotCache
from luthier.models.tied_lookup import TiedLookup
from luthier.models.together import joined_layers, lay_out

# From here on attention that never holds the (T, T) matrix is faster and smaller.
LONG_ROW = 1024


class _HeadFunction(torch.autograd.Function):
    """x @ W.T for a frozen head, through the matrix's own layouts."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, head: Matrix) -> Tensor:
        """(N, h) -> (N, V)."""
        ctx.head = head
        return head.times(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        """(N, V) -> (N, h)."""
        return ctx.head.back(grad.contiguous()), None


def _repeated(values_N: Tensor) -> Tensor:
    """The last value again, until there are an even number of rows."""
    more = even_rows(len(values_N)) - len(values_N)
    return torch.cat((values_N, values_N[-1:].expand(more))) if more else values_N


class DecoderModel(LanguageModel):
    """A Llama-like model."""

    def __init__(
        self, folder: Path, config: DecoderConfig, facts: ModelFacts, *, device: str, dtype: torch.dtype, packed: bool = False
    ) -> None:
        """Read the weights of a checked folder; ``packed``: the blocks' matrices are held in 4 bits."""
        self.folder = folder
        self.facts = facts
        self._config = config
        self._weights = read_weights(folder, config, dtype=dtype, device=device, packed=packed)
        self._is_packed = packed
        self.module: nn.Module = self._weights
        self._dtype = dtype
        self._adapters: dict[str, DecoderAdapter] = {}
        self._active: DecoderAdapter | None = None
        self._cos, self._sin = self._tables(min(config.max_length, LONG_ROW))
        self.decodes_apart = True
        # A GPU has no use for the hand-written gradient, which saves calls of small operators, and hates padding.
        self.flat = self.device.type == "cuda"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._weights.embedding.device

    @property
    def _inner_dtype(self) -> torch.dtype:
        """Of the numbers between the blocks' weights, where whole rows are read."""
        return torch.bfloat16 if self.narrow else self._dtype

    def logits_at(self, ids_BT: Tensor, lengths_B: Tensor, rows_N: Tensor, columns_N: Tensor) -> Tensor:
        """See ``LanguageModel``. The head is applied to the chosen positions only."""
        return self._head(self._chosen(ids_BT, lengths_B, rows_N, columns_N))

    def losses_at(
        self, ids_BT: Tensor, lengths_B: Tensor, rows_N: Tensor, columns_N: Tensor, targets_N: Tensor, weights_N: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See ``LanguageModel``. Logits exist for some positions at a time."""
        x = self._normed(self._chosen(ids_BT, lengths_B, rows_N, columns_N))
        targets_N, weights_N = targets_N.to(self.device), weights_N.to(self.device)
        return head_losses(x, self._weights.head, targets_N, weights_N)

    def learns_together(self, adapters: Sequence[str]) -> bool:
        """See ``LanguageModel``. Not with DoRA, whose lengths are found one adapter at a time."""
        return self.flat and not any(self._adapters[name].form.dora for name in adapters)

    def losses_together(self, parts: Sequence[AdapterRows]) -> tuple[Tensor, Tensor, Tensor]:
        """See ``LanguageModel``."""
        if not self.learns_together([part.adapter for part in parts]):
            raise NotImplementedError
        layout, lows = lay_out(parts), joined_layers([self._adapters[part.adapter] for part in parts])
        longest = max(layout.lengths)
        self._cover(longest)
        frame = flat_frame(self._config, layout.lengths, longest, self._cos, self._sin)
        x = self._flat_blocks(F.embedding(layout.ids_N.to(self.device), self._weights.embedding), lows, frame)
        x = self._normed(x.index_select(0, layout.chosen_P.to(self.device)))
        targets_P = torch.cat([part.targets_N for part in parts]).to(self.device)
        weights_P = torch.cat([part.weights_N for part in parts]).to(self.device)
        return head_losses(x, self._weights.head, targets_P, weights_P)

    def _chosen(self, ids_BT: Tensor, lengths_B: Tensor, rows_N: Tensor, columns_N: Tensor) -> Tensor:
        """(N, h): what the blocks make of the chosen positions."""
        ids_BT, rows_N, columns_N = (t.to(self.device) for t in (ids_BT, rows_N, columns_N))
        batch, length = ids_BT.shape
        self._check_length(length)
        for matrix in self._weights.matrices:
            if matrix.weight.requires_grad:
                matrix.forget()
        if self.flat:
            x, frame = self._flat_hidden(ids_BT, lengths_B)
            return x.index_select(0, frame.starts_R1.long()[rows_N] + columns_N)
        length, dtype = self._widened(length), self._inner_dtype
        ids_BT = F.pad(ids_BT, (0, length - ids_BT.shape[1]))
        frame = self._frame(batch, length, dtype)
        tied = self._config.tied_head and self._weights.embedding.requires_grad and torch.is_grad_enabled()
        lookup = TiedLookup.apply if tied else F.embedding
        x = lookup(ids_BT.reshape(-1), self._weights.embedding).to(dtype)
        if self.noise is not None:
            x = self.noise.on_padded(x.view(batch, length, -1), lengths_B.tolist()).flatten(0, 1)
        for layer, low, own in zip(self._weights.blocks, self._lows(reuse=False), self._by_layer(frame), strict=True):
            if length > LONG_ROW:
                x = self._kept_or_not(plain_block, x, layer, low, own)[0]
            elif torch.is_grad_enabled():
                function = RecomputedBlock if self.recompute else BlockFunction
                x = function.apply(x, layer, low, own, *base_tensors(layer), *(low.tensors() if low is not None else ()))
            else:
                x = block_forward(x, layer, low, own, Tape())
        assert isinstance(x, Tensor)
        return x.index_select(0, rows_N * length + columns_N)

    def token_losses_at(
        self, ids_BT: Tensor, lengths_B: Tensor, rows_N: Tensor, columns_N: Tensor, targets_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See ``LanguageModel``. On a GPU logits exist for some positions at a time, and are made once more on the way back."""
        if not self.flat:
            rows_N, columns_N, targets_M = (_repeated(t) for t in (rows_N, columns_N, targets_N))
            losses_M, hits_M = super().token_losses_at(ids_BT, lengths_B, rows_N, columns_N, targets_M)
            return losses_M[: len(targets_N)], hits_M[: len(targets_N)]
        targets_N = targets_N.to(self.device)
        chosen = self._chosen(ids_BT, lengths_B, rows_N, columns_N)
        size = max(1, CHUNK_NUMBERS // self.facts.vocab_size)
        pieces = zip(chosen.split(size), targets_N.split(size), strict=True)
        done = [checkpoint(lambda part, targets: token_losses(self._head(part), targets), *piece, use_reentrant=False) for piece in pieces]
        losses, hits = zip(*done, strict=True)  # type: ignore[misc]
        return torch.cat(losses), torch.cat(hits)

    def new_cache(self, num_slots: int, max_length: int) -> Cache:
        """See ``LanguageModel``."""
        if num_slots < 1 or not 1 <= max_length <= self._config.max_length:
            raise InvalidRequest(
                f"A cache of {num_slots} slots of {max_length} tokens does not fit; the model's limit is {self._config.max_length}."
            )
        return SlotCache(self._config, num_slots, max_length, dtype=self._dtype, device=self.device)

    @torch.no_grad()
    def prefill(self, cache: Cache, slot: int, ids_T: Sequence[int] | Tensor) -> Tensor:
        """See ``LanguageModel``."""
        assert isinstance(cache, SlotCache)
        ids = torch.as_tensor(ids_T, dtype=torch.int64, device=self.device)
        length = ids.shape[0]
        if not 1 <= length <= cache.max_length:
            raise InvalidRequest(f"The prompt has {length} tokens; between 1 and {cache.max_length} fit.")
        width = self._widened(length) if length <= LONG_ROW else length
        frame = self._frame(1, width, self._dtype)
        x = F.embedding(F.pad(ids, (0, width - length)), self._weights.embedding)
        for index, (layer, low, own) in enumerate(zip(self._weights.blocks, self._lows(reuse=False), self._by_layer(frame), strict=True)):
            if length > LONG_ROW:
                x, keys, values = plain_block(x, layer, low, own)
                keys, values = keys[0], values[0]
            else:
                x = block_forward(x, layer, low, own, tape := Tape())
                keys, values = tape.k, tape.v
            cache.keys[index, slot, :, :length] = keys[:, :length]
            cache.values[index, slot, :, :length] = values[:, :length]
        cache.set_length(slot, length)
        return self._head(x[length - 1 : length])[0]

    @torch.no_grad()
    def decode(self, cache: Cache, slots_B: Sequence[int], ids_B: Sequence[int] | Tensor) -> Tensor:
        """See ``LanguageModel``."""
        return self._step(cache, slots_B, ids_B, [() if low is None else ((None, low),) for low in self._lows(reuse=True)])

    @torch.no_grad()
    def decode_apart(self, cache: Cache, slots_B: Sequence[int], ids_B: Sequence[int] | Tensor, adapters_B: Sequence[str | None]) -> Tensor:
        """See ``LanguageModel``. Adapters' small products follow for each run of equal ones, or at once where runs are of one length."""
        assert isinstance(cache, SlotCache)
        runs = [(name, len(list(run))) for name, run in groupby(adapters_B)]
        names = [name for name, _ in runs if name is not None]
        plain = len(names) == len(runs) > 1 and not any(self._adapters[name].form.dora for name in names)
        if plain and len({count for _, count in runs}) == 1 and (self.flat or cache.steady):
            joined = cache.stacked.of([self._adapters[name] for name in names])
            return self._step(cache, slots_B, ids_B, [((None, low),) for low in joined])
        by_layer: list[list[RowAdapter]] = [[] for _ in range(self._config.num_layers)]
        start = 0
        for name, count in runs:
            if name is not None:
                for lows, low in zip(by_layer, self._adapters[name].layers(reuse=True), strict=True):
                    lows.append((slice(start, start + count), low))
            start += count
        return self._step(cache, slots_B, ids_B, by_layer)

    def _step(self, cache: Cache, slots_B: Sequence[int], ids_B: Sequence[int] | Tensor, lows_L: Sequence[Sequence[RowAdapter]]) -> Tensor:
        assert isinstance(cache, SlotCache)
        x = F.embedding(torch.as_tensor(ids_B, dtype=torch.int64, device=self.device), self._weights.embedding)
        step = cache.step(slots_B)
        self._cover(cache.max_length)
        turned = (self._cos[step.positions_B][:, None], self._sin[step.positions_B][:, None])
        straight = (torch.ones_like(turned[0]), torch.zeros_like(turned[1]))
        for index, (layer, lows) in enumerate(zip(self._weights.blocks, lows_L, strict=True)):
            x = step_block(x, layer, lows, self._config, step, index, straight if index in self._config.without_rotation else turned)
        return self._head(x)

    def free(self, cache: Cache, slot: int) -> None:
        """See ``LanguageModel``."""
        assert isinstance(cache, SlotCache)
        cache.set_length(slot, 0)

    def add_adapter(self, name: str, *, rank: int, alpha: float, seed: int, form: AdapterForm = PLAIN) -> None:
        """See ``LanguageModel``."""
        self._refuse_taken(name)
        self._adapters[name] = DecoderAdapter.fresh(self._config, self._weights, rank=rank, alpha=alpha, seed=seed, form=form)

    def load_adapter(self, name: str, folder: Path) -> None:
        """See ``LanguageModel``."""
        self._refuse_taken(name)
        self._adapters[name] = DecoderAdapter.load(self._config, self._weights, folder)

    def save_adapter(self, name: str, folder: Path, *, base_name: str) -> None:
        """See ``LanguageModel``."""
        self._adapters[name].save(folder, base_name=base_name)

    def remove_adapter(self, name: str) -> None:
        """See ``LanguageModel``."""
        self._adapters.pop(name, None)

    @contextmanager
    def use_adapter(self, name: str | None) -> Iterator[None]:
        """See ``LanguageModel``."""
        before = self._active
        self._active = None if name is None else self._adapters[name]
        try:
            yield
        finally:
            self._active = before

    def adapter_parameters(self, name: str) -> list[nn.Parameter]:
        """See ``LanguageModel``."""
        return self._adapters[name].parameters()

    def all_parameters(self) -> list[nn.Parameter]:
        """See ``LanguageModel``."""
        return list(self._weights.parameters())

    def save_full(self, folder: Path) -> None:
        """See ``LanguageModel``."""
        if self._is_packed:
            raise InvalidRequest(NOT_SAVED)
        copy_companions(self.folder, folder)
        write_weights(folder / "model.safetensors", self._config, self._weights, dtype=getattr(torch, self.facts.dtype))

    def probe(
        self, ids_T: Sequence[int], adapter: str | None, positions_N: Sequence[int], *, attention_layer: int | None = None
    ) -> Iterator[Probe | None]:
        """See ``LanguageModel``."""
        self._check_length(len(ids_T))
        with torch.inference_mode(), self.use_adapter(adapter):
            x = F.embedding(torch.tensor(list(ids_T), device=self.device), self._weights.embedding)
            frame = causal_frame(self._config, 1, len(ids_T), *self._turns(len(ids_T)))
            blocks = list(zip(self._weights.blocks, self._lows(reuse=False), self._by_layer(frame), strict=True))
        positions = torch.tensor(list(positions_N), device=self.device)
        yield from probe_blocks(x, blocks, self._head, positions, vocab_size=self.facts.vocab_size, attention_layer=attention_layer)

    def adapter_changes(self, name: str) -> list[tuple[str, float]]:
        """See ``LanguageModel``."""
        return self._adapters[name].changes()

    def token_vectors(self) -> Tensor | None:
        """See ``LanguageModel``."""
        return self._weights.embedding

    def _turns(self, length: int) -> tuple[Tensor, Tensor]:
        self._cover(length)
        return self._cos[:length], self._sin[:length]

    def _flat_hidden(self, ids_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, FlatFrame]:
        """(N, h) after the last block, rows end to end."""
        length = ids_BT.shape[1]
        self._cover(length)
        frame = flat_frame(self._config, lengths_B.tolist(), length, *(table.to(self._inner_dtype) for table in (self._cos, self._sin)))
        x = F.embedding(ids_BT.reshape(-1)[frame.position_N], self._weights.embedding).to(self._inner_dtype)
        if self.noise is not None:
            x = self.noise.on_flat(x, frame.lengths)
        return self._flat_blocks(x, self._lows(reuse=False), frame), frame

    def _flat_blocks(self, x: Tensor, lows: Sequence[LayerAdapter | JoinedLayer | None], frame: FlatFrame) -> Tensor:
        # Unpacking is a call into a library, which no compiled block can hold.
        compiled = self.compiled and torch.is_grad_enabled() and not self._is_packed
        for layer, low, own in zip(self._weights.blocks, lows, self._flat_by_layer(frame), strict=True):
            x = self._kept_or_not(partial(flat_block, compiled=compiled), x, layer, low, own)
        return x

    def _kept_or_not(self, block: Callable[..., Any], *arguments: object) -> Any:
        """What a block of ordinary operators makes; its inner values are kept for the way back, or made again there."""
        if not (self.recompute and torch.is_grad_enabled()):
            return block(*arguments)
        # Nothing in a block is random.
        return checkpoint(block, *arguments, use_reentrant=False, preserve_rng_state=False)

    def _widened(self, length: int) -> int:
        """The width that rows of at most so many tokens are padded to; see ``row_counts.py``."""
        return min(even_rows(length), self._config.max_length) if self.device.type == "cpu" else length

    def _check_length(self, length: int) -> None:
        if length > self._config.max_length:
            raise InvalidRequest(f"A row of {length} tokens is longer than the model's limit of {self._config.max_length}.")

    def _normed(self, x_NH: Tensor) -> Tensor:
        return plain_norm(x_NH, self._weights.final_norm, self._config.norm_eps)

    def _head(self, x_NH: Tensor) -> Tensor:
        normed = self._normed(x_NH)
        if self._weights.head_weight.requires_grad:
            return linear(normed, self._weights.head_weight).float()
        logits = _HeadFunction.apply(normed, self._weights.head)
        assert isinstance(logits, Tensor)
        return logits.float()

    def _lows(self, *, reuse: bool) -> Sequence[LayerAdapter | None]:
        return (None,) * self._config.num_layers if self._active is None else self._active.layers(reuse=reuse)

    def _by_layer(self, frame: Frame) -> Sequence[Frame]:
        """The frame of each layer: one for all, but for layers that do not rotate."""
        still = self._config.without_rotation
        if not still:
            return (frame,) * self._config.num_layers
        straight = replace(frame, cos_TD=torch.ones_like(frame.cos_TD), sin_TD=torch.zeros_like(frame.sin_TD))
        return tuple(straight if index in still else frame for index in range(self._config.num_layers))

    def _flat_by_layer(self, frame: FlatFrame) -> Sequence[FlatFrame]:
        still = self._config.without_rotation
        if not still:
            return (frame,) * self._config.num_layers
        straight = replace(frame, cos_N1D=torch.ones_like(frame.cos_N1D), sin_N1D=torch.zeros_like(frame.sin_N1D))
        return tuple(straight if index in still else frame for index in range(self._config.num_layers))

    def _frame(self, batch: int, length: int, dtype: torch.dtype) -> Frame:
        cos, sin = (table.to(dtype) for table in self._turns(length))
        if length > LONG_ROW:
            return Frame(self._config, batch, length, cos, sin, cos[:0])
        return causal_frame(self._config, batch, length, cos, sin)

    def _cover(self, length: int) -> None:
        if length > self._cos.shape[0]:
            self._cos, self._sin = self._tables(min(self._config.max_length, max(length, 2 * self._cos.shape[0])))

    def _tables(self, length: int) -> tuple[Tensor, Tensor]:
        cos, sin = rotary_tables(self._config, length)
        return cos.to(self.device, self._dtype), sin.to(self.device, self._dtype)

    def _refuse_taken(self, name: str) -> None:
        if name in self._adapters:
            raise InvalidRequest(f"An adapter named {name} is attached already.")
