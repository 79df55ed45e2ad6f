"""The demo's example: files are sound, disjoint, and nothing in the code knows a phrase."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from luthier.cli.demo_data import Phrase, asked_phrases, draw, read_phrases, read_rows
from luthier.core.matching import words

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "examples" / "translate-en-fr"


def _phrase(prompt: str) -> str:
    prefix = "Translate to French: "
    assert prompt.startswith(prefix)
    return words(prompt.removeprefix(prefix))


TRAIN = read_rows(FOLDER / "train.jsonl")
VALID = read_rows(FOLDER / "valid.jsonl")
POOL = read_phrases(FOLDER / "phrases.jsonl")


@pytest.mark.parametrize("name", ["train.jsonl", "valid.jsonl"])
def test_rows_are_prompt_completion_json(name: str) -> None:
    raw = (FOLDER / name).read_bytes()
    assert raw.endswith(b"\n")
    assert b"\r" not in raw
    for line in raw.decode("utf-8").splitlines():
        row = json.loads(line)
        assert set(row) == {"prompt", "completion"}
        assert row["completion"].strip() == row["completion"] != ""
        assert _phrase(row["prompt"])


def test_sizes() -> None:
    assert 150 <= len(TRAIN) <= 250
    assert len(VALID) >= 40
    assert sum(not p.named for p in POOL) >= 40
    assert [p.text for p in POOL if p.named] == ["Good morning", "Thank you"]


def test_no_phrase_stands_twice_or_in_two_files() -> None:
    counted = Counter([_phrase(r["prompt"]) for r in TRAIN + VALID] + [words(p.text) for p in POOL])
    assert [phrase for phrase, times in counted.items() if times > 1] == []


def test_no_row_contains_a_pool_phrase() -> None:
    rows = [f" {_phrase(r['prompt'])} " for r in TRAIN + VALID]
    contained = [(p.text, row) for p in POOL for row in rows if f" {words(p.text)} " in row]
    assert contained == []


def test_no_training_row_contains_an_asked_prompt() -> None:
    lines = [words(line) for line in (FOLDER / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = asked_phrases(FOLDER)
    assert len(asked) == 12
    for phrase in asked:
        assert not any(f" {words(phrase.text)} " in f" {line} " for line in lines), phrase.text


def test_answers_are_distinct_and_not_empty() -> None:
    for phrase in POOL:
        answers = [words(a) for a in phrase.answers]
        assert answers
        assert all(answers)
        assert len(set(answers)) == len(answers), phrase.text


def test_no_rule_in_the_code_knows_a_phrase() -> None:
    phrases = [p.text for p in POOL] + [a for p in POOL for a in p.answers] + [r["completion"] for r in TRAIN + VALID]
    # Quoted text of two words or more: a table or a rule would hold it so; comments and one-word values are ordinary English.
    texts = {words(w) for w in phrases if len(words(w).split()) > 1}
    pattern = re.compile(r"\"([^\"\n]{3,60})\"|'([^'\n]{3,60})'")
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for match in pattern.finditer(path.read_text(encoding="utf-8")):
            if words(match.group(1) or match.group(2)) in texts:
                found.append((path.name, match.group(0)))
    assert found == []


def test_draw_is_seeded_and_leaves_trained_phrases_out() -> None:
    pool = [Phrase(f"phrase {n}", ("x",)) for n in range(20)] + [Phrase("named", ("y",), named=True)]
    trained = [f"Translate to French: Phrase {n}!" for n in range(10)]
    first = draw(pool, trained)
    assert first == draw(pool, trained)
    assert sorted(p.text for p in first) == sorted(f"phrase {n}" for n in range(10, 20))
    assert draw(pool, [], seed=1) != draw(pool, [], seed=2)


def test_draw_script_prints_the_asked_phrases() -> None:
    printed = subprocess.run([sys.executable, str(FOLDER / "draw.py")], capture_output=True, text=True, check=True, encoding="utf-8")
    lines = printed.stdout.splitlines()
    assert lines[0] == "seed 20261122"
    assert [line.split("  ->  ")[0] for line in lines[1:]] == [p.prompt for p in asked_phrases(FOLDER)]


@pytest.mark.parametrize(
    ("answer", "right"),
    [("oui, d'accord.", True), ("Oui d’accord !", True), ("Oui, d'accórd", False), ("Oui", False), ("", False)],
)
def test_accepts_after_normalisation(answer: str, right: bool) -> None:
    assert Phrase("Yes, all right", ("Oui, d'accord",)).accepts(answer) is right
