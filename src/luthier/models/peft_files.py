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


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFiles:
    """A LoRA adapter as read."""

    rank: int
    alpha: float
    scale: float
    """Factor of B @ A: alpha / rank, or alpha / sqrt(rank) with rsLoRA."""
    rslora: bool
    tensors: dict[str, Tensor]
    """PEFT's names (``base_model.model....lora_A.weight``) -> float32."""


def read_adapter(folder: Path) -> AdapterFiles:
    """Read both files.

    Raises:
        InvalidRequest: a file is missing or torn, or the adapter is no plain LoRA.
    """
    config = read_adapter_config(folder)
    try:
        tensors = load_file(folder / WEIGHTS_NAME)
    except (SafetensorError, OSError) as error:
        raise InvalidRequest(f"{WEIGHTS_NAME} of the adapter is missing or torn.") from error
    rank, alpha, rslora = config["r"], float(config["lora_alpha"]), bool(config.get("use_rslora"))
    scale = alpha / math.sqrt(rank) if rslora else alpha / rank
    return AdapterFiles(rank=rank, alpha=alpha, scale=scale, rslora=rslora, tensors={k: v.to(torch.float32) for k, v in tensors.items()})


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The checked config. Raises InvalidRequest as ``read_adapter`` does."""
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidRequest(f"{CONFIG_NAME} of the adapter is missing or not valid JSON.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise InvalidRequest("Only LoRA adapters can be loaded.")
    for option in ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication", "trainable_token_indices"):
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
        "use_rslora": files.rslora,
        "target_modules": sorted(targets),
        "inference_mode": True,
    }
    save_file(files.tensors, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
