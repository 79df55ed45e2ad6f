"""What the complete path asks of a model of transformers beyond its forward: loading, the head at chosen positions, where LoRA goes.

What it does: loads a folder and refuses weights that are missing; hands the output matrix the positions that are asked for and no others;
puts noise on embeddings; has layers made again on the way back; names the linear layers that an adapter trains. What it does not: hold
adapters or caches (``transformers_model.py`` does, its only caller).

Axis letters: B rows, T tokens of a row, N chosen positions, h width, V vocabulary.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from luthier.core.errors import InvalidRequest
from luthier.models.embedding_noise import EmbeddingNoise
from luthier.models.targets import ROUTERS

_UNREADABLE = (ValueError, KeyError, OSError, AttributeError, RuntimeError, TypeError, ImportError)


class Still(nn.Module):
    """A model that stays in evaluation mode: its own dropout and routing noise never act.

    Dropout would make a step's loss depend on how its batch was cut, and an adapter that is switched off differ from the base.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.eval()

    def train(self, mode: bool = True) -> "Still":
        """Remembers the mode for itself only."""
        self.training = mode
        return self


def load_causal_lm(folder: Path, family: str, *, device: str, dtype: torch.dtype) -> Any:
    """A model of transformers in evaluation mode, all weights frozen.

    Raises:
        InvalidRequest: transformers has no causal language model for this config, or the files lack weights (it would draw random ones).
    """
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            attn_implementation=_attention(config),
            output_loading_info=True,
        )
    except _UNREADABLE as error:
        raise InvalidRequest(f"{folder.name} (model type {family}) cannot be loaded as a causal language model.") from error
    model, report = loaded
    if report["missing_keys"]:
        first, *others = sorted(report["missing_keys"])
        more = f" and {len(others)} more" if others else ""
        raise InvalidRequest(f"The weights of {folder.name} lack {first}{more}.")
    model = model.to(device).eval()
    model.requires_grad_(False)
    return model


def _attention(config: Any) -> str | None:
    """``eager`` where the others would leave something out (soft-capped scores: Gemma 2); None takes the best that the family declares."""
    return "eager" if getattr(config.get_text_config(decoder=True), "attn_logit_softcapping", None) else None


def cache_argument(model: Any) -> str | None:
    """How the model's forward calls what it keeps of earlier tokens; None for the few that keep nothing and read the whole text again.

    The name must be there: a forward with ``**kwargs`` swallows the wrong one without a word.
    """
    known = inspect.signature(model.forward).parameters
    return next((name for name in ("past_key_values", "cache_params") if name in known), None)


@contextmanager
def head_at(model: Any, positions_N: Tensor) -> Iterator[None]:
    """Within the block the output matrix sees the chosen positions of the flattened (B * T) only: logits are (1, N, V).

    What a family does to its logits after the head (a soft cap, a scale) is applied to these as to all. A model without an output
    matrix of its own computes all logits; ``chosen_logits`` tells the two apart.
    """
    head = model.get_output_embeddings()

    def choose(_module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden_BTh, *others = arguments
        return (hidden_BTh.flatten(0, 1).index_select(0, positions_N)[None], *others)

    handle = None if head is None else head.register_forward_pre_hook(choose)
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


@contextmanager
def noise_on(model: Any, noise: EmbeddingNoise | None, lengths_B: Tensor) -> Iterator[None]:
    """Within the block the input embeddings of rows of these lengths get the noise, before what a family does to them afterwards."""
    if noise is None:
        yield
        return
    lengths = lengths_B.tolist()
    handle = model.get_input_embeddings().register_forward_hook(lambda _module, _arguments, x_BTh: noise.on_padded(x_BTh, lengths))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def blocks_made_again(model: nn.Module) -> Iterator[None]:
    """A forward within the block keeps each layer's input alone, and makes the rest again on the way back.

    Not by the library's own switch, which acts in training mode alone: there dropout would act too.

    Raises:
        InvalidRequest: the model's code does not say what its layers are.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise InvalidRequest("This base model's code cannot make its layers again: leave 'luthier.gradient_checkpointing' out.")
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own is there again


def chosen_logits(model: Any, logits: Tensor, positions_N: Tensor) -> Tensor:
    """(N, V) float32 of what came out of a block of ``head_at``."""
    if model.get_output_embeddings() is not None:
        return logits[0].float()
    return logits.flatten(0, 1).index_select(0, positions_N).float()


def is_transposed(model: nn.Module) -> bool:
    """True for models that keep their matrices as (in, out): GPT-2."""
    return any(isinstance(module, Conv1D) for module in model.modules())


def lora_targets(model: Any) -> list[str]:
    """Full names of the layers that an adapter trains: the linear ones of the language model's blocks, without head, routers and experts.

    Experts of mixture models are stacked in one tensor and are no linear layers; their attention is adapted.
    """
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    inside = {id(module) for module in decoder.modules()}
    state_space = "mamba" in str(getattr(model.config, "model_type", ""))
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and id(module) in inside
        and module is not head
        and not ROUTERS.intersection(name.split("."))
        # Read by the scan without being called, so that an adapter there would have no effect.
        and not (state_space and name.endswith((".dt_proj", ".out_proj")))
    ]


def linear_names(model: nn.Module) -> tuple[str, ...]:
    """Full names of all linear layers, before any adapter is on them."""
    return tuple(name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D))


def short_targets(linear: Sequence[str], adapted: Sequence[str]) -> list[str]:
    """The shortest ends of the adapted layers' names that mean no other: ``c_attn``, or ``attn.c_proj`` where the MLP has one too."""
    others = [f".{name}" for name in set(linear) - set(adapted)]
    names: set[str] = set()
    for path in adapted:
        parts = path.split(".")
        ends = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
        names.add(next((end for end in ends if not any(other.endswith(f".{end}") for other in others)), path))
    return sorted(names)
