"""Which models the fast decoder understands, and their shape as it needs it.

What it does: reads a Hugging Face config dict. What it does not: guess; anything not listed here makes ``parse`` return None and
``load.py`` takes transformers. Called by ``load.py`` and ``decoder.py``.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
# What transformers takes where a config of this family leaves it out; the others have (False, 10000).
_DEFAULTS = {"smollm3": (True, 2_000_000.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama3Scaling:
    """Frequency scaling of Llama 3.1 and later."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """A Llama-like decoder in numbers."""

    family: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_size: int
    max_length: int
    norm_eps: float
    rope_theta: float
    scaling: Llama3Scaling | None
    tied_head: bool
    qkv_bias: bool
    qk_norm: bool
    without_rotation: frozenset[int] = frozenset()
    """Layers whose queries and keys carry no position (SmolLM 3; NoPE, Kazemnejad et al. 2023, arXiv:2305.19466)."""

    @property
    def num_queries_per_kv(self) -> int:
        """Query heads that share one key/value head."""
        return self.num_heads // self.num_kv_heads

    @property
    def q_size(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key heads together."""
        return self.num_kv_heads * self.head_dim


def parse(config: dict[str, Any]) -> DecoderConfig | None:
    """The decoder's shape, or None when the config asks for anything that the fast decoder does not do."""
    family = config.get("model_type")
    if family not in _FAMILIES or not _is_plain(config):
        return None
    rope = _rope(config)
    if rope is None:
        return None
    theta, scaling = rope
    try:
        num_heads = int(config["num_attention_heads"])
        num_kv_heads = int(config.get("num_key_value_heads") or num_heads)
        head_dim = int(config.get("head_dim") or config["hidden_size"] // num_heads)
        if num_heads % num_kv_heads or head_dim % 2:
            return None
        return DecoderConfig(
            family=family,
            vocab_size=int(config["vocab_size"]),
            hidden_size=int(config["hidden_size"]),
            num_layers=int(config["num_hidden_layers"]),
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            mlp_size=int(config["intermediate_size"]),
            max_length=int(config["max_position_embeddings"]),
            norm_eps=float(config["rms_norm_eps"]),
            rope_theta=theta,
            scaling=scaling,
            tied_head=bool(config.get("tie_word_embeddings", _DEFAULTS.get(family, (False, 0.0))[0])),
            qkv_bias=family == "qwen2",
            qk_norm=family == "qwen3",
            without_rotation=_without_rotation(config) if family == "smollm3" else frozenset(),
        )
    except (KeyError, TypeError, IndexError):
        return None


def _without_rotation(config: dict[str, Any]) -> frozenset[int]:
    """SmolLM 3 lists a 1 for each layer with rotary positions; without a list every fourth has none."""
    layers, listed = range(int(config["num_hidden_layers"])), config.get("no_rope_layers")
    if listed is not None:
        return frozenset(layer for layer in layers if not listed[layer])
    every = int(config.get("no_rope_layer_interval", 4))
    return frozenset(layer for layer in layers if (layer + 1) % every == 0)


def _is_plain(config: dict[str, Any]) -> bool:
    if config.get("hidden_act", "silu") != "silu" or config.get("quantization_config"):
        return False
    if config.get("attention_bias") or config.get("mlp_bias") or float(config.get("partial_rotary_factor") or 1.0) != 1.0:
        return False
    return not _looks_through_a_window(config)


def _looks_through_a_window(config: dict[str, Any]) -> bool:
    window = config.get("sliding_window")
    if window is None or int(window) >= int(config.get("max_position_embeddings") or 0):
        return False
    if config["model_type"] in ("qwen2", "qwen3", "smollm3"):
        kinds = config.get("layer_types")
        return bool(config.get("use_sliding_window")) or any(kind != "full_attention" for kind in kinds or ())
    return config["model_type"] == "mistral"


def _rope(config: dict[str, Any]) -> tuple[float, Llama3Scaling | None] | None:
    """Base and scaling from the form of transformers 5 (``rope_parameters``) or 4 (``rope_theta``, ``rope_scaling``)."""
    options = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(options, dict) or float(options.get("partial_rotary_factor") or 1.0) != 1.0:
        return None
    theta = options.get("rope_theta") or config.get("rope_theta") or _DEFAULTS.get(config["model_type"], (False, 10000.0))[1]
    if not isinstance(theta, int | float):
        return None
    kind = options.get("rope_type") or options.get("type") or "default"
    if kind == "default" and not any(isinstance(v, dict) for v in options.values()):
        return float(theta), None
    if kind != "llama3":
        return None
    try:
        scaling = Llama3Scaling(
            factor=float(options["factor"]),
            low_freq_factor=float(options["low_freq_factor"]),
            high_freq_factor=float(options["high_freq_factor"]),
            original_max_length=int(options["original_max_position_embeddings"]),
        )
    except KeyError:
        return None
    return float(theta), scaling


def rotary_tables(config: DecoderConfig, length: int) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine for positions 0 to length - 1, each (length, head_dim) float32.

    With them the rotation is ``x * cos + roll(x, head_dim / 2) * sin``: the sign of rotate-half is in the table.
    """
    steps = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
    frequency = 1.0 / (config.rope_theta**steps)
    if config.scaling is not None:
        frequency = _llama3(frequency, config.scaling)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequency)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def _llama3(frequency: Tensor, scaling: Llama3Scaling) -> Tensor:
    wavelength = 2 * math.pi / frequency
    longest = scaling.original_max_length / scaling.low_freq_factor
    shortest = scaling.original_max_length / scaling.high_freq_factor
    slowed = torch.where(wavelength > longest, frequency / scaling.factor, frequency)
    share = (scaling.original_max_length / wavelength - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blended = (1 - share) * slowed / scaling.factor + share * slowed
    between = (wavelength >= shortest) & (wavelength <= longest)
    return torch.where(between, blended, slowed)
