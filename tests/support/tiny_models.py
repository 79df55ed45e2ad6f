"""Tiny random models in Hugging Face folders, for any test that needs a real model.

What it does: Llama, Mistral, Qwen 2, Qwen 3 and GPT-2 of some hundred thousand parameters with the builtin base's tokenizer.
What it does not: answer sensibly; use ``mini_folder`` for that. Importing this is cheap; building imports transformers.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import luthier

VOCAB_SIZE = 8192
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gpt2")
"""``gpt2`` goes through transformers, the others through the fast decoder."""

CHATML = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""A template without generation marks, over the builtin tokenizer's special marks, with a line end after each turn."""


def mini_folder() -> Path:
    """The model inside the package."""
    return Path(luthier.__file__).parent / "models" / "builtin" / "luthier-mini"


def build(family: str, folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Make a random model with the builtin tokenizer; returns the folder.

    Args:
        family: one of ``FAMILIES``.
        folder: is made.
        seed: of the weights.
        changes: fields of the transformers config to set.
    """
    import torch
    import transformers

    shape: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "bos_token_id": 0,
        "eos_token_id": 5,
        "pad_token_id": 1,
    }
    special: dict[str, dict[str, Any]] = {
        "llama": {"tie_word_embeddings": True},
        "mistral": {"sliding_window": None},
        "qwen2": {},
        "qwen3": {},
        "gpt2": {
            "vocab_size": VOCAB_SIZE,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 256,
            "bos_token_id": 0,
            "eos_token_id": 5,
        },
    }
    classes = {"llama": "LlamaConfig", "mistral": "MistralConfig", "qwen2": "Qwen2Config", "qwen3": "Qwen3Config", "gpt2": "GPT2Config"}
    options = special[family] if family == "gpt2" else shape | special[family]
    config = getattr(transformers, classes[family])(**(options | changes))
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for parameter in model.parameters():
        # The usual start (0.02, norms all one, biases zero) hides mistakes: everything is nearly zero or the identity.
        parameter.data += 0.1 * torch.randn(parameter.shape)
    torch.set_rng_state(state)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(mini_folder() / name, folder / name)
    return folder


def set_template(folder: Path, template: str | None) -> Path:
    """Change a folder's chat template; None takes it away. Returns the folder."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("chat_template", None)
    if template is not None:
        config["chat_template"] = template
    path.write_text(json.dumps(config))
    return folder


def tokenizer_folder(folder: Path, template: str | None) -> Path:
    """A folder with the builtin tokenizer and another template (or none), without weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copyfile(mini_folder() / name, folder / name)
    return set_template(folder, template)
