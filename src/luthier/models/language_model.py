"""The one interface to a causal language model: logits at chosen positions, slots for generation, adapters.

What it does: says what training, engine and evaluation may ask of a model. What it does not: decide how (``decoder.py``
is the fast way for Llama-like models, ``transformers_model.py`` the way for every other). Built by ``load.load_model``;
called by ``engine``, ``training``, ``evaluation`` and ``deployment``.

Axis letters: B rows of a batch, T tokens of a row, N chosen positions, V vocabulary. A model is used by one thread at a time.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from luthier.models.adapter_form import PLAIN, AdapterForm
from luthier.models.embedding_noise import EmbeddingNoise
from luthier.models.facts import ModelFacts
from luthier.models.probe import Probe


class Cache(ABC):
    """Keys and values of up to ``num_slots`` sequences. Made by ``LanguageModel.new_cache`` and used only with that model."""

    num_slots: int
    max_length: int
    """Longest sequence of a slot, tokens."""
    steady: bool = False
    """True says that the same adapters answer for many tokens: what is made of them once then pays on a CPU too."""

    @abstractmethod
    def length(self, slot: int) -> int:
        """Tokens that the slot holds now; 0 for a free slot."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AdapterRows:
    """Rows that one adapter learns from, beside those of others. Tensors on the CPU, as ``LanguageModel.losses_at`` has them."""

    adapter: str
    ids_BT: Tensor
    lengths_B: Tensor
    rows_N: Tensor
    columns_N: Tensor
    targets_N: Tensor
    weights_N: Tensor


class LanguageModel(ABC):
    """A causal language model with its weights. Base weights are loaded frozen (``requires_grad`` False)."""

    facts: ModelFacts
    folder: Path
    """The Hugging Face folder it was read from; tokenizer files are copied from here by ``save_full``."""
    module: nn.Module
    flat: bool = False
    """True where rows are read end to end, so that padding costs nothing, and logits are made in pieces."""
    recompute: bool = False
    """True has a forward with gradients keep each block's input alone, and make the rest again on the way back."""
    narrow: bool = False
    """True asks for numbers of 16 bits between float32 weights that train (mixed precision); a model that cannot ignores it."""
    compiled: bool = False
    """True asks for compiled blocks in training; a model that has none ignores it."""
    decodes_apart: bool = False
    """True where ``decode_apart`` reads the weights once for all slots."""
    noise: EmbeddingNoise | None = None
    """What the input embeddings of a forward over whole rows get; only a training step sets it (``training/noise.py``)."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the weights are."""

    @abstractmethod
    def logits_at(self, ids_BT: Tensor, lengths_B: Tensor, rows_N: Tensor, columns_N: Tensor) -> Tensor:
        """Logits that predict the token AFTER position (row, column), with gradients where they are enabled.

        To score the token at column t of a row ask for column t - 1.

        Args:
            ids_BT: int64, rows padded on the right (any valid id as padding). Tensors may be on the CPU or on
                the model's device.
            lengths_B: int64 on the CPU, true lengths; positions at or past them are never read by earlier ones.
            rows_N: int64 row of each chosen position.
            columns_N: int64 column of each chosen position, below its row's length.

        Returns:
            (N, V) float32.
        """

    def losses_at(
        self, ids_BT: Tensor, lengths_B: Tensor, rows_N: Tensor, columns_N: Tensor, targets_N: Tensor, weights_N: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-entropy of the tokens AFTER chosen positions, with gradients where they are enabled.

        Args:
            ids_BT: as ``logits_at``; so are ``lengths_B``, ``rows_N`` and ``columns_N``.
            targets_N: int64 the true token after each position.
            weights_N: float32 weight of each.

        Returns:
            The weighted sum of losses (scalar, nats), (N,) int64 1 where a greedy choice hits the target, and the (N,) float32 weighted
            losses themselves, without gradients.
        """
        logits_NV = self.logits_at(ids_BT, lengths_B, rows_N, columns_N)
        targets_N, weights_N = targets_N.to(logits_NV.device), weights_N.to(logits_NV.device)
        losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none") * weights_N
        return losses_N.sum(), (logits_NV.detach().argmax(dim=-1) == targets_N).long(), losses_N.detach()

    def learns_together(self, adapters: Sequence[str]) -> bool:
        """``losses_together`` takes rows of these adapters."""
        return False

    def losses_together(self, parts: Sequence[AdapterRows]) -> tuple[Tensor, Tensor, Tensor]:
        """``losses_at`` for rows of several adapters at once, each read with its own, whatever ``use_adapter`` says.

        Returns:
            As ``losses_at``, over the positions of all parts in their order. An adapter's gradient comes from its own rows alone.

        Raises:
            NotImplementedError: ``learns_together`` said so.
        """
        raise NotImplementedError

    def token_losses_at(
        self, ids_BT: Tensor, lengths_B: Tensor, rows_N: Tensor, columns_N: Tensor, targets_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As ``losses_at``, but one loss for each position instead of their sum, and no weights.

        Returns:
            (N,) float32 losses (nats) with gradients where they are enabled, and (N,) int64 1 where a greedy choice hits the target.
        """
        return token_losses(self.logits_at(ids_BT, lengths_B, rows_N, columns_N), targets_N)

    @abstractmethod
    def new_cache(self, num_slots: int, max_length: int) -> Cache:
        """An empty cache. ``max_length`` above ``facts.max_length`` is refused with InvalidRequest."""

    @abstractmethod
    def prefill(self, cache: Cache, slot: int, ids_T: Sequence[int] | Tensor) -> Tensor:
        """Read a whole prompt into a free slot (what it held is forgotten); no gradients.

        Args:
            ids_T: at least one and at most ``cache.max_length`` token ids.

        Returns:
            (V,) float32 logits after the last token.

        Raises:
            InvalidRequest: the prompt is empty or longer than the slot.
        """

    @abstractmethod
    def decode(self, cache: Cache, slots_B: Sequence[int], ids_B: Sequence[int] | Tensor) -> Tensor:
        """Append one token to each of some prefilled slots (all different), batched; no gradients.

        Returns:
            (B, V) float32 logits after each appended token.

        Raises:
            InvalidRequest: a slot is full.
        """

    def decode_apart(self, cache: Cache, slots_B: Sequence[int], ids_B: Sequence[int] | Tensor, adapters_B: Sequence[str | None]) -> Tensor:
        """As ``decode``, each slot with an adapter of its own (None for the base), whatever ``use_adapter`` says.

        Here one slot after the other; a model that can takes all of them at once.
        """
        logits: list[Tensor] = []
        for slot, token, adapter in zip(slots_B, torch.as_tensor(ids_B).tolist(), adapters_B, strict=True):
            with self.use_adapter(adapter):
                logits.append(self.decode(cache, [slot], [token])[0])
        return torch.stack(logits)

    @abstractmethod
    def free(self, cache: Cache, slot: int) -> None:
        """Forget what a slot holds; freeing a free slot does nothing."""

    @abstractmethod
    def add_adapter(self, name: str, *, rank: int, alpha: float, seed: int, form: AdapterForm = PLAIN) -> None:
        """Attach a fresh trainable adapter (on ``form.targets``, without them on all linear layers of attention and MLP; A Kaiming
        uniform, B zero).

        The same seed gives the same numbers on every machine. Raises InvalidRequest when the name is taken, or the model has no such
        layer.
        """

    @abstractmethod
    def load_adapter(self, name: str, folder: Path) -> None:
        """Attach an adapter saved in PEFT's format. Its parameters are trainable, as a fresh one's are.

        Raises:
            InvalidRequest: files are missing, options are not understood, or shapes do not fit this base.
        """

    @abstractmethod
    def save_adapter(self, name: str, folder: Path, *, base_name: str) -> None:
        """Write ``adapter_config.json`` and ``adapter_model.safetensors`` (float32) into an existing folder, in PEFT's format.

        May be called beside the thread that uses the model, as long as that leaves this adapter alone.
        """

    @abstractmethod
    def remove_adapter(self, name: str) -> None:
        """Detach and forget an adapter; an unknown name does nothing."""

    @abstractmethod
    def use_adapter(self, name: str | None) -> AbstractContextManager[None]:
        """Within the ``with`` block every call uses this adapter; None means the base alone, bit for bit.

        Outside of any block no adapter is active. Blocks nest. Raises KeyError for an unknown name.
        """

    @abstractmethod
    def adapter_parameters(self, name: str) -> list[nn.Parameter]:
        """The adapter's parameters (float32, ``requires_grad`` True), in an order that is stable for resume states."""

    @abstractmethod
    def all_parameters(self) -> list[nn.Parameter]:
        """The base's own parameters without duplicates, in a stable order. Loaded frozen: a full fine-tune calls
        ``requires_grad_(True)`` on each first."""

    @abstractmethod
    def save_full(self, folder: Path) -> None:
        """Write the whole model into an existing folder in Hugging Face's format: config, safetensors (in the dtype of the
        folder it came from), tokenizer files, generation config. Adapters are not written."""

    def probe(
        self, ids_T: Sequence[int], adapter: str | None, positions_N: Sequence[int], *, attention_layer: int | None = None
    ) -> Iterator[Probe | None]:
        """Look into one forward over a short row, in pieces between which the model may be used for other things.

        Args:
            ids_T: the row.
            adapter: as ``use_adapter`` takes it.
            positions_N: where the logit lens is applied.
            attention_layer: the block whose attention weights are wanted, if any.

        Yields:
            None after each piece, and last the probe. Nothing at all where this model cannot be looked into.
        """
        return iter(())

    def adapter_changes(self, name: str) -> list[tuple[str, float]]:
        """How much an adapter changes each matrix: its name in the model, and ||W' - W||_F / ||W||_F."""
        return []

    def token_vectors(self) -> Tensor | None:
        """(V, h) the embedding of every token; None where there is no such matrix."""
        return None


def token_losses(logits_NV: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy (nats) and greedy hits of each row of logits."""
    targets_N = targets_N.to(logits_NV.device)
    losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
    return losses_N, (logits_NV.detach().argmax(dim=-1) == targets_N).long()
