"""Every tested family of causal language models: its config class in transformers and a shape of some hundred thousand parameters.

What it does: a table for ``tiny_models.build``. What it does not: import transformers.
"""

from dataclasses import dataclass
from typing import Any

VOCAB_SIZE = 8192
"""Of the builtin tokenizer, which all tiny models share."""
_MARKS = {"vocab_size": VOCAB_SIZE, "bos_token_id": 0, "eos_token_id": 5, "pad_token_id": 1}
_PLAIN = _MARKS | {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_SIZED = _PLAIN | {"head_dim": 8}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_PHI4_MINI = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.75}
_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LOCAL = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}


@dataclass(frozen=True, slots=True)
class TinyFamily:
    """One family."""

    config: str
    """Class of transformers."""
    options: dict[str, Any]
    fast: bool = False
    """Runs on the fast decoder."""


TINY: dict[str, TinyFamily] = {
    "llama": TinyFamily("LlamaConfig", _SIZED | {"tie_word_embeddings": True}, fast=True),
    "llama2": TinyFamily("LlamaConfig", _SIZED | {"num_key_value_heads": 4, "tie_word_embeddings": False}, fast=True),
    "llama3": TinyFamily("LlamaConfig", _SIZED | {"rope_parameters": _LLAMA3_ROPE, "tie_word_embeddings": True}, fast=True),
    "mistral": TinyFamily("MistralConfig", _SIZED | {"sliding_window": None}, fast=True),
    "qwen2": TinyFamily("Qwen2Config", _SIZED, fast=True),
    "qwen3": TinyFamily("Qwen3Config", _SIZED, fast=True),
    "smollm3": TinyFamily("SmolLM3Config", _PLAIN | {"num_hidden_layers": 4, "no_rope_layers": [1, 0, 1, 0]}, fast=True),
    "gpt2": TinyFamily("GPT2Config", _MARKS | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}),
    "gpt-neox": TinyFamily("GPTNeoXConfig", {key: value for key, value in _PLAIN.items() if key != "num_key_value_heads"}),
    "gemma2": TinyFamily(
        "Gemma2Config", _SIZED | {"query_pre_attn_scalar": 16, "final_logit_softcapping": 9.0, "attn_logit_softcapping": 2.0, **_LOCAL}
    ),
    "gemma3": TinyFamily("Gemma3TextConfig", _SIZED | {"query_pre_attn_scalar": 16, **_LOCAL}),
    # Gemma 3 from 4B on: pictures too. The language model in it is what is tuned.
    "gemma3-vision": TinyFamily(
        "Gemma3Config",
        {
            "text_config": _SIZED | {"query_pre_attn_scalar": 16, **_LOCAL},
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 16,
                "patch_size": 8,
            },
            "mm_tokens_per_image": 4,
            "image_token_index": 9,
            "boi_token_index": 10,
            "eoi_token_index": 11,
        },
    ),
    "phi3": TinyFamily("Phi3Config", _PLAIN),
    "phi4-mini": TinyFamily("Phi3Config", _PLAIN | {"hidden_size": 64, "tie_word_embeddings": True, "rope_parameters": _PHI4_MINI}),
    "olmo2": TinyFamily("Olmo2Config", _PLAIN),
    "granite": TinyFamily(
        "GraniteConfig",
        _PLAIN | {"embedding_multiplier": 6.0, "residual_multiplier": 0.4, "attention_multiplier": 0.25, "logits_scaling": 4.0},
    ),
    "qwen3-moe": TinyFamily("Qwen3MoeConfig", _SIZED | _MOE),
    "gpt-oss": TinyFamily(
        "GptOssConfig",
        _SIZED
        | {"num_local_experts": 4, "num_experts_per_tok": 2, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, **_LOCAL},
    ),
    "lfm2": TinyFamily("Lfm2Config", _PLAIN | {"layer_types": ["conv", "full_attention"], "block_ff_dim": 48}),
    "mamba": TinyFamily("MambaConfig", _MARKS | {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}),
    "openai-gpt": TinyFamily("OpenAIGPTConfig", {"vocab_size": VOCAB_SIZE, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}),
    "opt": TinyFamily(
        "OPTConfig",
        _MARKS
        | {
            "hidden_size": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "word_embed_proj_dim": 32,
        },
    ),
}
