"""A tiny corpus with its checksums, and a small recipe and mixture in place of the real ones."""

import json
import shutil
from pathlib import Path

import pytest

from pretraining import corpus, tokenizer
from tests.support import tiny_corpus

RECIPE = {
    "shape": {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48},
    "arithmetic": "bfloat16",
    "optimizer": "muon",
    "learning_rate": 0.01,
    "embedding_rate": 0.01,
    "weight_decay": 0.1,
    "momentum": 0.95,
    "betas": [0.9, 0.95],
    "clip": 1.0,
    "dropout": 0.0,
    "batch_tokens": 128,
    "warmup_steps": 4,
    "decay_share": 0.35,
    "final_rate": 0.0,
    "keep_best": False,
    "seed": 1,
}
MIXTURE = {
    "phases": [
        {"name": "first", "share": 0.6, "length": 32, "parts": {"text_en": 0.2, "text_fr": 0.2, "pairs_all": 0.4, "tasks": 0.2}},
        {"name": "second", "share": 0.4, "length": 64, "parts": {"pairs_canonical": 0.4, "pairs_short": 0.4, "tasks": 0.2}},
    ]
}


@pytest.fixture
def corpus_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole tiny corpus; the package's tables are replaced by ones that fit it."""
    data = tmp_path / "data"
    data.mkdir()
    for name, content in (("recipe_cpu.json", RECIPE), ("mixture.json", MIXTURE), ("mixture_gpu.json", MIXTURE)):
        (data / name).write_text(json.dumps(content), encoding="utf-8")
    folder = tiny_corpus.build(tmp_path / "corpus")
    tiny_corpus.write_checksums(folder, data)
    monkeypatch.setattr(corpus, "DATA", data)
    return folder


@pytest.fixture
def work(corpus_folder: Path, tmp_path: Path) -> Path:
    """A work folder with a small tokenizer."""
    folder = tmp_path / "work"
    folder.mkdir()
    learned = tokenizer.train_tokenizer((f"{pair.en} {pair.fr}" for pair in corpus.pairs(corpus_folder)), vocabulary=400)
    learned.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def packed(corpus_folder: Path, work: Path) -> Path:
    """A work folder with some thousand packed tokens."""
    from pretraining import pack

    shutil.rmtree(work / "packed", ignore_errors=True)
    pack.pack(corpus_folder, work, tokens=6000, seed=3)
    return work
