"""The demo's phrases: which are asked, and when an answer counts as right.

What it does: read ``phrases.jsonl`` of the example, draw the asked phrases with the committed seed, compare answers after
normalisation. What it does not: know any phrase or translation; those stand in the example's files. Called by
``cli/demo.py`` and ``examples/translate-en-fr/draw.py``.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.core.matching import words

SEED = 20261122
NUM_DRAWN = 10
PROMPT_PREFIX = "Translate to French: "


@dataclass(frozen=True, slots=True)
class Phrase:
    """One phrase with every answer that counts as right."""

    text: str
    answers: tuple[str, ...]
    named: bool = False
    """Always asked, not drawn."""

    @property
    def prompt(self) -> str:
        """The phrase in the wording of the training file."""
        return PROMPT_PREFIX + self.text

    def accepts(self, answer: str) -> bool:
        """True when the answer is one of the committed ones, after normalisation."""
        return words(answer) in {words(a) for a in self.answers}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file, in order."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def read_phrases(path: Path) -> tuple[Phrase, ...]:
    """All phrases of the pool, in file order."""
    return tuple(Phrase(row["phrase"], tuple(row["answers"]), bool(row.get("named", False))) for row in read_rows(path))


def draw(phrases: Sequence[Phrase], training_prompts: Sequence[str], *, seed: int = SEED, count: int = NUM_DRAWN) -> tuple[Phrase, ...]:
    """``count`` phrases of the pool, drawn by the seed from those that are no training prompt; named ones are left out."""
    trained = {words(prompt) for prompt in training_prompts}
    candidates = [p for p in phrases if not p.named and words(p.prompt) not in trained]
    return tuple(random.Random(seed).sample(candidates, count))


def asked_phrases(folder: Path) -> tuple[Phrase, ...]:
    """The phrases that the demo asks: the named ones, then the drawn ones."""
    phrases = read_phrases(folder / "phrases.jsonl")
    training_prompts = [row["prompt"] for row in read_rows(folder / "train.jsonl")]
    return tuple(p for p in phrases if p.named) + draw(phrases, training_prompts)
