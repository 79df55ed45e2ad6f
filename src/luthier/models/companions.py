"""The small files that belong beside weights: configs and tokenizer. Called by both models when they save a whole folder."""

import shutil
from pathlib import Path

COMPANION_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
)


def copy_companions(source: Path, target: Path) -> None:
    """Copy those that exist, byte for byte, into an existing folder."""
    for name in COMPANION_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
