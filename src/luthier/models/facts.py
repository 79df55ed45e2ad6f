"""What a model folder is, read without torch: facts for people and records, and the check before anything is loaded.

What it does: reads ``config.json``, safetensors headers and the card's licence, hashes the folder, refuses folders that are
unsafe or incomplete.
What it does not: read weights into memory. Called by ``load.py``, ``worker``, ``cli``.
"""

import hashlib
import json
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.core.errors import InvalidRequest

_MODEL_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MAX_HEADER_BYTES = 100 * 1024 * 1024
_REVISION_SUFFIXES = (".safetensors",)
_REVISION_NAMES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "special_tokens_map.json",
)
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_DEFAULT_MAX_LENGTH = 2048
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CACHED = "models--"
_CARD_HEADER = re.compile(r"\A---[ \t]*\r?\n(.*?)\r?\n---", re.DOTALL)
_MAX_LICENCE_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model in numbers."""

    family: str
    """``model_type`` of the config."""
    num_parameters: int
    """Tied weights counted once."""
    vocab_size: int
    hidden_size: int
    num_layers: int
    max_length: int
    """Longest sequence the positions allow, tokens."""
    dtype: str
    """Of the stored weights, as config.json or the weights say: ``bfloat16``, ``float32``, ..."""
    revision: str
    """SHA-256 over weights, tokenizer and configs."""


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json. Raises InvalidRequest when it is missing or no JSON object."""
    path = folder / "config.json"
    if not path.is_file():
        raise InvalidRequest(f"{folder.name} is not a model folder: config.json is missing.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidRequest(f"config.json of {folder.name} is not valid JSON.") from error
    if not isinstance(config, dict):
        raise InvalidRequest(f"config.json of {folder.name} must hold a JSON object.")
    return config


def read_facts(folder: Path, *, hashed: bool = True) -> ModelFacts:
    """The facts of a checked folder; reads headers and hashes the files (about 1 GB/s).

    Args:
        folder: of a model.
        hashed: False leaves ``revision`` empty, for those who ask for sizes alone.

    Raises:
        InvalidRequest: see ``check_folder``.
    """
    check_folder(folder)
    config = read_config(folder)
    num_parameters, stored_dtype = _weigh(folder, tied=bool(config.get("tie_word_embeddings", False)))
    return facts_of_config(config, num_parameters=num_parameters, dtype=stored_dtype, revision=revision(folder) if hashed else "")


def facts_of_config(config: dict[str, Any], *, num_parameters: int, dtype: str, revision: str) -> ModelFacts:
    """The facts that a config.json tells, with those that it does not."""
    text = _text_config(config)
    return ModelFacts(
        family=str(config["model_type"]),
        num_parameters=num_parameters,
        vocab_size=_number(text, "vocab_size", default=0),
        hidden_size=_number(text, "hidden_size", "n_embd", "d_model", default=0),
        num_layers=_number(text, "num_hidden_layers", "n_layer", "num_layers", default=0),
        max_length=max_length_of(config),
        dtype=dtype,
        revision=revision,
    )


def read_max_length(folder: Path) -> int:
    """``ModelFacts.max_length`` without reading anything but the config.

    Raises:
        InvalidRequest: config.json is missing or invalid.
    """
    return max_length_of(read_config(folder))


def max_length_of(config: dict[str, Any]) -> int:
    """Longest sequence that the positions of a model with this config.json allow, tokens."""
    names = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
    return _number(_text_config(config), *names, default=_DEFAULT_MAX_LENGTH)


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    text = config.get("text_config")
    return text if isinstance(text, dict) else config


def read_licence(folder: Path) -> str | None:
    """The licence that the folder's card names, as the card writes it (``apache-2.0``); None when there is no card or it names none."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    header = _CARD_HEADER.match(text)
    if header is None:
        return None
    names = {key: _licence_names(header[1], key) for key in ("license", "license_name")}
    # A card says "other" when the licence is not on the hub's list, and then names it in a field of its own.
    chosen = names["license_name"] if names["license"] in ("other", "") else names["license"]
    return (chosen or names["license"])[:_MAX_LICENCE_CHARACTERS] or None


def _licence_names(header: str, key: str) -> str:
    """The values of one field of a card's YAML header: a word, ``[a, b]``, or lines that begin with a dash."""
    found = re.search(rf"^{key}:[ \t]*([^\n]*)((?:\n[ \t]*-[ \t][^\n]*)*)", header, re.MULTILINE)
    if found is None:
        return ""
    written = found[1].split(" #")[0].strip().strip("[]")
    values = written.split(",") if written else [line.strip().removeprefix("-") for line in found[2].splitlines()]
    return ", ".join(value for raw in values if (value := raw.strip().strip("'\"")) and value not in ("null", "~"))


def check_folder(folder: Path) -> None:
    """Refuse a folder that is incomplete or could run code.

    Raises:
        InvalidRequest: config.json missing or invalid, no safetensors weights, only pickled weights, remote code asked for,
            an odd ``model_type``, no tokenizer.json, or symbolic links.
    """
    if not folder.is_dir():
        raise InvalidRequest(f"The model folder {folder.name} does not exist.")
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not _is_cached_blob(path, folder):
            raise InvalidRequest(f"{folder.name} contains the symbolic link {path.name}; copy the file itself into the folder.")
    check_config(read_config(folder), folder.name)
    if not any(folder.glob("*.safetensors")):
        if any(p.suffix in _PICKLE_SUFFIXES for p in folder.iterdir()):
            raise InvalidRequest(f"{folder.name} holds pickled weights only; convert them to safetensors.")
        raise InvalidRequest(f"{folder.name} holds no *.safetensors weights.")
    if not (folder / "tokenizer.json").is_file():
        raise InvalidRequest(f"{folder.name} has no tokenizer.json.")


def check_config(config: dict[str, Any], name: str) -> None:
    """Refuse a config.json that asks for code or names no model type; ``name`` is the model's, for the sentence.

    Raises:
        InvalidRequest: it does.
    """
    if _asks_for_code(config):
        raise InvalidRequest(f"config.json of {name} names code of its own (auto_map); models that need remote code are refused.")
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not _MODEL_TYPE.fullmatch(model_type):
        raise InvalidRequest(f"config.json of {name} has no valid model_type.")


def cached_snapshot(folder: Path) -> tuple[str, str] | None:
    """(``OWNER/NAME``, commit) of a folder in the cache of the Hugging Face hub (``models--OWNER--NAME/snapshots/COMMIT``); else None."""
    commit, parent, repo = folder.name, folder.parent.name, folder.parent.parent.name
    if not _COMMIT.fullmatch(commit) or parent != "snapshots" or not repo.startswith(_CACHED):
        return None
    return repo.removeprefix(_CACHED).replace("--", "/"), commit


def _is_cached_blob(path: Path, folder: Path) -> bool:
    """True for the links that a snapshot in the hub's cache is made of: to a file within the same cache."""
    folder = folder.absolute()
    if cached_snapshot(folder) is None:
        return False
    target = path.resolve()
    return target.is_file() and target.is_relative_to(folder.parents[2].resolve()) and target.parent.parent.name != "snapshots"


def revision(folder: Path) -> str:
    """SHA-256 over names and contents of weights, tokenizer and configs, in the order of names."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.name in _REVISION_NAMES or path.suffix in _REVISION_SUFFIXES:
            total.update(path.name.encode())
            with path.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def read_safetensors_header(path: Path) -> dict[str, Any]:
    """Name -> ``{"dtype", "shape", "data_offsets"}`` of one file; raises InvalidRequest when the file is torn."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
            raise InvalidRequest(f"{path.name} is not a complete safetensors file.")
        try:
            header = json.loads(stream.read(length))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InvalidRequest(f"{path.name} is not a complete safetensors file.") from error
    header.pop("__metadata__", None)
    end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if end != size - 8 - length:
        raise InvalidRequest(f"{path.name} is not a complete safetensors file.")
    return header


_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def _weigh(folder: Path, *, tied: bool) -> tuple[int, str]:
    sizes: dict[str, int] = {}
    by_dtype: dict[str, int] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, entry in read_safetensors_header(path).items():
            if tied and name.endswith("lm_head.weight"):
                continue
            sizes[name] = math.prod(entry["shape"])
            by_dtype[entry["dtype"]] = by_dtype.get(entry["dtype"], 0) + sizes[name]
    if not by_dtype:
        raise InvalidRequest(f"The safetensors files of {folder.name} hold no weights.")
    most = max(by_dtype, key=lambda d: by_dtype[d])
    return sum(sizes.values()), _DTYPES.get(most, most)


def _number(config: dict[str, Any], *names: str, default: int) -> int:
    for name in names:
        if isinstance(config.get(name), int):
            return config[name]
    return default


def _asks_for_code(value: Any) -> bool:
    if isinstance(value, dict):
        return any((k in ("auto_map", "trust_remote_code") and bool(v)) or _asks_for_code(v) for k, v in value.items())
    return isinstance(value, list) and any(_asks_for_code(v) for v in value)
