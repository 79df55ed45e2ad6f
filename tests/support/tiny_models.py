"""Tiny random models in Hugging Face folders, for any test that needs a real model.

What it does: a model of any family of ``tiny_families.py`` with the builtin base's tokenizer.
What it does not: answer sensibly; use ``mini_folder`` for that. Importing this is cheap; building imports transformers.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import luthier
from tests.support.tiny_families import TINY, VOCAB_SIZE

__all__ = ["CHATML", "FAMILIES", "VOCAB_SIZE", "build", "mini_folder", "set_template", "tokenizer_folder"]

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gpt2")
"""A few of ``tiny_families.TINY`` for tests that need not see all. ``gpt2`` goes through transformers, the others through the decoder."""

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
        family: a name of ``tiny_families.TINY``.
        folder: is made.
        seed: of the weights.
        changes: fields of the transformers config to set.
    """
    import torch
    import transformers

    config = getattr(transformers, TINY[family].config)(**(TINY[family].options | changes))
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
