"""Adapters in PEFT's file format: ``adapter_config.json`` and ``adapter_model.safetensors``.

What it does: reads and checks the two files, writes them. What it does not: know of any layer. Called by ``lora.py`` and
``transformers_model.py``.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from luthier.core.errors import InvalidRequest

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
MAGNITUDE = "lora_magnitude_vector"
"""How the name of a DoRA layer's lengths ends in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFiles:
    """A LoRA or DoRA adapter as read."""

    rank: int
    alpha: float
    scale: float
    """Factor of B @ A: alpha / rank, or alpha / sqrt(rank) with rsLoRA."""
    rslora: bool
    dora: bool
    """Each adapted layer has a vector of lengths beside its two matrices."""
    tensors: dict[str, Tensor]
    """PEFT's names (``base_model.model....lora_A.weight``) -> float32."""


def read_adapter(folder: Path) -> AdapterFiles:
    """Read both files.

    Raises:
        InvalidRequest: a file is missing or torn, or the adapter is neither LoRA nor DoRA.
    """
    config = read_adapter_config(folder)
    try:
        tensors = load_file(folder / WEIGHTS_NAME)
    except (SafetensorError, OSError) as error:
        raise InvalidRequest(f"{WEIGHTS_NAME} of the adapter is missing or torn.") from error
    rank, alpha, rslora = config["r"], float(config["lora_alpha"]), bool(config.get("use_rslora"))
    scale = alpha / math.sqrt(rank) if rslora else alpha / rank
    dora = bool(config.get("use_dora"))
    _check_magnitudes(tensors, dora=dora)
    plain = {key: value.to(torch.float32) for key, value in tensors.items()}
    return AdapterFiles(rank=rank, alpha=alpha, scale=scale, rslora=rslora, dora=dora, tensors=plain)


def _check_magnitudes(tensors: dict[str, Tensor], *, dora: bool) -> None:
    """Every adapted layer has its vector of lengths with DoRA, and none without."""
    layers = {key.rsplit(".lora_", 1)[0] for key in tensors}
    having = {key.removesuffix(f".{MAGNITUDE}") for key in tensors if key.endswith(f".{MAGNITUDE}")}
    if not dora and having:
        raise InvalidRequest(f"The adapter has {MAGNITUDE} tensors, but {CONFIG_NAME} does not say use_dora.")
    if dora and layers - having:
        raise InvalidRequest(f"{CONFIG_NAME} of the adapter says use_dora, but {min(layers - having)} has no {MAGNITUDE}.")


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The checked config. Raises InvalidRequest as ``read_adapter`` does."""
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidRequest(f"{CONFIG_NAME} of the adapter is missing or not valid JSON.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise InvalidRequest("Only LoRA adapters can be loaded.")
    for option in ("rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication", "trainable_token_indices"):
        if config.get(option):
            raise InvalidRequest(f"The adapter uses {option}, which is not supported.")
    if config.get("bias", "none") != "none":
        raise InvalidRequest("Adapters that train biases are not supported.")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float) or alpha <= 0:
        raise InvalidRequest("The adapter's rank and alpha must be positive numbers.")
    return config


def write_adapter(folder: Path, files: AdapterFiles, *, base_name: str, targets: list[str], fan_in_fan_out: bool = False) -> None:
    """Write both files.

    Args:
        folder: existing.
        files: rank, alpha and tensors under PEFT's names.
        base_name: ``base_model_name_or_path`` of the config.
        targets: last parts of the adapted modules' names, such as ``q_proj``.
        fan_in_fan_out: the base keeps its matrices transposed (GPT-2).
    """
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": files.rank,
        "lora_alpha": int(files.alpha) if files.alpha == int(files.alpha) else files.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": fan_in_fan_out,
        "use_dora": files.dora,
        "use_rslora": files.rslora,
        "target_modules": sorted(targets),
        "inference_mode": True,
    }
    save_file(files.tensors, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
