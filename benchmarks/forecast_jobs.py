"""Five fixed jobs that the forecast is measured on: their rows, their models with random weights, their hyperparameters.

What it does: writes each job's files and model folder, the same bytes at every call. What it does not: forecast or train. They were
fixed before the estimator was written, so that it could not be fitted to them; a change here makes every earlier figure void.
Called by ``bench_forecast.py``. Each takes one to three minutes on two free cores.
"""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "translate-en-fr"
SEED = 20261126
MINI = "luthier-mini"
WORDS = (
    "the a old small red good house river dog man woman child day morning night road tree water bread book friend door garden "
    "went saw said came took gave made found lost ate heard and but then because with under over into near about very never always"
)

LLAMA_15M = {
    "hidden_size": 288,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "vocab_size": 32000,
    "tie_word_embeddings": True,
    "max_position_embeddings": 2048,
}
LLAMA_60M = {
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
    "max_position_embeddings": 2048,
}
SMOLLM2_135M = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
    "max_position_embeddings": 2048,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchJob:
    """One job: what is trained on what."""

    name: str
    model: str
    """``luthier-mini``, or the name under which the random model is added."""
    shape: dict[str, Any] | None
    """Fields of the random model's config.json; None for the embedded model."""
    adapter: str
    """``lora`` or ``full``."""
    hyperparameters: dict[str, int]
    write_files: Callable[[Path], tuple[Path, Path | None]]
    """Writes training and validation file into a folder."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further Luthier options, such as ``max_length``."""


def _words(draw: random.Random, low: int, high: int) -> str:
    return " ".join(draw.choice(WORDS.split()) for _ in range(draw.randint(low, high)))


def _chat_rows(path: Path, count: int, *, prompt: tuple[int, int], answer: tuple[int, int], seed: int) -> Path:
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            messages = [
                {"role": "user", "content": _words(draw, *prompt)},
                {"role": "assistant", "content": _words(draw, *answer)},
            ]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path


def _demo(folder: Path) -> tuple[Path, Path | None]:
    train, valid = folder / "train.jsonl", folder / "valid.jsonl"
    shutil.copyfile(EXAMPLES / "train.jsonl", train)
    shutil.copyfile(EXAMPLES / "valid.jsonl", valid)
    return train, valid


def _middle_rows(folder: Path) -> tuple[Path, Path | None]:
    return _chat_rows(folder / "train.jsonl", 240, prompt=(10, 110), answer=(10, 90), seed=SEED), None


def _with_validation(folder: Path) -> tuple[Path, Path | None]:
    train = _chat_rows(folder / "train.jsonl", 60, prompt=(20, 80), answer=(20, 80), seed=SEED + 1)
    return train, _chat_rows(folder / "valid.jsonl", 8, prompt=(20, 80), answer=(20, 80), seed=SEED + 2)


def _few_rows(folder: Path) -> tuple[Path, Path | None]:
    return _chat_rows(folder / "train.jsonl", 24, prompt=(20, 90), answer=(20, 90), seed=SEED + 3), None


def _long_rows(folder: Path) -> tuple[Path, Path | None]:
    return _chat_rows(folder / "train.jsonl", 24, prompt=(100, 1600), answer=(100, 1300), seed=SEED + 4), None


JOBS: tuple[BenchJob, ...] = (
    BenchJob(
        name="mini, LoRA, demo rows",
        model=MINI,
        shape=None,
        adapter="lora",
        hyperparameters={"n_epochs": 3, "batch_size": 4},
        write_files=_demo,
    ),
    BenchJob(
        name="15 M, LoRA, middle rows",
        model="random-15m",
        shape=LLAMA_15M,
        adapter="lora",
        hyperparameters={"n_epochs": 3, "batch_size": 4},
        write_files=_middle_rows,
    ),
    BenchJob(
        name="60 M, full, validation",
        model="random-60m",
        shape=LLAMA_60M,
        adapter="full",
        hyperparameters={"n_epochs": 3, "batch_size": 4},
        write_files=_with_validation,
    ),
    BenchJob(
        name="135 M, LoRA, few rows",
        model="random-135m",
        shape=SMOLLM2_135M,
        adapter="lora",
        hyperparameters={"n_epochs": 3, "batch_size": 2},
        write_files=_few_rows,
    ),
    BenchJob(
        name="15 M, full, long rows",
        model="random-15m",
        shape=LLAMA_15M,
        adapter="full",
        hyperparameters={"n_epochs": 2, "batch_size": 1},
        write_files=_long_rows,
        options={"max_length": 2048},
    ),
)


def write_model(folder: Path, shape: dict[str, Any]) -> Path:
    """A Llama with random weights of this shape and the embedded model's tokenizer, in Hugging Face's format; returns the folder.

    Its ids above the tokenizer's are never used; they cost time and memory like those of any model of that size.
    """
    import torch

    from luthier.core.settings import Settings
    from luthier.models.decoder_config import parse
    from luthier.models.decoder_weights import DecoderWeights, write_weights

    folder.mkdir(parents=True, exist_ok=True)
    plain = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "bos_token_id": 0,
        "eos_token_id": 5,
        "pad_token_id": 1,
        "dtype": "float32",
        **shape,
    }
    (folder / "config.json").write_text(json.dumps(plain, indent=1))
    config = parse(plain)
    assert config is not None
    weights = DecoderWeights(config, torch.float32, "cpu")
    generator = torch.Generator().manual_seed(SEED)
    for parameter in weights.parameters():
        if parameter.ndim == 1:
            parameter.data.fill_(1.0)
        else:
            parameter.data.normal_(0.0, 0.02, generator=generator)
    write_weights(folder / "model.safetensors", config, weights, dtype=torch.float32)
    mini = Settings().resolve_model_path(f"builtin:{MINI}")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(mini / name, folder / name)
    return folder
