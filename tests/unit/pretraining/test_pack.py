"""Packing: the mixture is what it says, the same seed packs the same, and nothing that must be kept out is in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pretraining import corpus, keep_out, pack, tokenizer
from pretraining.errors import PretrainingError
from pretraining.parts import Parts, trained_pairs
from tests.support import tiny_corpus

ROOT = Path(__file__).resolve().parents[3]
REAL_CORPUS = Path(os.environ.get("LUTHIER_CORPUS", Path(__file__).resolve().parents[4] / "shared" / "data" / "corpus"))


def test_shares_of_the_packaged_mixture_add_up() -> None:
    phases = json.loads((Path(pack.__file__).parent / "data" / "mixture.json").read_text(encoding="utf-8"))["phases"]
    assert sum(phase["share"] for phase in phases) == pytest.approx(1)
    for phase in phases:
        assert sum(phase["parts"].values()) == pytest.approx(1)


def test_blocks_follow_the_mixture_and_chain(packed: Path) -> None:
    manifest = json.loads((packed / "packed" / "manifest.json").read_text(encoding="utf-8"))
    first = manifest["phases"][0]
    assert first["blocks_of_part"] == {"text_en": 22, "text_fr": 22, "pairs_all": 45, "tasks": 22}
    blocks = np.fromfile(packed / "packed" / "first.bin", dtype=np.uint16).reshape(first["blocks"], first["length"] + 1)
    assert blocks.max() < 400


def test_a_stream_loses_nothing_between_two_takes(corpus_folder: Path, work: Path) -> None:
    encoder = tokenizer.load(work)
    once = pack.Stream(Parts(corpus_folder, 5).rows("pairs_all"), encoder).take(12, 32)
    stream = pack.Stream(Parts(corpus_folder, 5).rows("pairs_all"), encoder)
    twice = np.concatenate([stream.take(5, 32), stream.take(7, 32)])
    assert (once == twice).all()
    assert (once[:-1, -1] == once[1:, 0]).all()


def test_the_same_seed_packs_the_same_and_another_configuration_is_refused(packed: Path, corpus_folder: Path) -> None:
    before = (packed / "packed" / "second.bin").read_bytes()
    pack.pack(corpus_folder, packed, tokens=6000, seed=3)
    with pytest.raises(PretrainingError, match="packed with another configuration"):
        pack.pack(corpus_folder, packed, tokens=7000, seed=3)
    assert (packed / "packed" / "second.bin").read_bytes() == before
    (packed / "packed" / "manifest.json").unlink()
    pack.pack(corpus_folder, packed, tokens=6000, seed=3)
    assert (packed / "packed" / "second.bin").read_bytes() == before


def test_packed_text_of_the_tiny_corpus_keeps_the_rules(packed: Path, corpus_folder: Path) -> None:
    text = "\n".join(pack.packed_rows(packed))
    assert "house number" in text
    assert tiny_corpus.EVERYDAY[1].strip(".") in text
    assert tiny_corpus.HELD_OUT[0].strip(".") not in text
    assert "Nobody opens" not in text
    assert "in French" not in text
    pack.check(corpus_folder, packed)


def test_every_rule_is_seen_when_it_is_broken(corpus_folder: Path) -> None:
    pairs = corpus.pairs(corpus_folder)

    def breaches(row: str) -> list[str]:
        return list(keep_out.violations([row], pairs))

    assert "forbidden words" in breaches("please translate to French: a cat")[0]
    assert "'good morning' near an instruction" in breaches("How do you say: good morning?")[0]
    assert breaches(f"Traduis en anglais, et vite : {'x ' * 30} good morning") == []
    assert "held-out pair" in breaches("EN: The clock strikes twelve FR: L'horloge sonne midi")[0]
    assert breaches("The clock strikes twelve and nothing else") == []
    assert breaches("Good morning = Bonjour") == []


def test_a_pair_that_contains_a_held_out_pair_is_not_trained_on(corpus_folder: Path) -> None:
    english = {pair.en for pair in trained_pairs(corpus.pairs(corpus_folder))}
    assert f"{tiny_corpus.HELD_OUT[0]} Come!" not in english
    assert "How do you say cat in French?" not in english
    assert tiny_corpus.EVERYDAY[0] in english


def test_everyday_phrases_never_stand_in_a_task(corpus_folder: Path) -> None:
    rows = Parts(corpus_folder, 1).rows("tasks")
    assert not [row for row in (next(rows) for _ in range(3000)) if "morning" in row.lower()]


@pytest.mark.skipif(not REAL_CORPUS.is_dir(), reason="the corpus of the base model is not here (LUTHIER_CORPUS names its folder)")
def test_packed_text_of_the_real_corpus_keeps_the_rules(tmp_path: Path) -> None:
    encoder = Path(pack.__file__).parents[1] / "src" / "luthier" / "models" / "builtin" / "luthier-mini" / "tokenizer.json"
    (tmp_path / "tokenizer.json").write_bytes(encoder.read_bytes())
    pack.pack(REAL_CORPUS, tmp_path, tokens=300_000, seed=11)
    pack.check(REAL_CORPUS, tmp_path)


def test_rows_do_not_depend_on_the_process(corpus_folder: Path) -> None:
    script = (
        "import sys, hashlib, itertools, pathlib, pretraining.parts as parts\n"
        "made = parts.Parts(pathlib.Path(sys.argv[1]), 1)\n"
        "names = ('text_en', 'text_fr', 'pairs_all', 'pairs_canonical', 'pairs_short', 'tasks')\n"
        "rows = [row for name in names for row in itertools.islice(made.rows(name), 400)]\n"
        "print(hashlib.sha256('\\n'.join(rows).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script, str(corpus_folder)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(digests) == 1
