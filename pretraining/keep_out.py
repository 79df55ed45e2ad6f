"""What must not be in pre-training, and the check that it is not.

Three rules (the demonstration would prove nothing without them): no instruction to translate, so that no everyday phrase stands near
one and fine-tuning has the task to teach; the words "Translate to French" nowhere; no held-out pair. ``allowed`` keeps such rows out
when parts are made, ``violations`` reads the packed text afterwards. Called by ``parts.py``, ``pack.py`` and the tests.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from pretraining.corpus import Pair

INSTRUCTION = re.compile(
    r"\btranslat|\btradui|\btraduc|\b(?:in|into|to|for) (?:french|english)\b|\ben (?:français|francais|anglais)\b"
    r"|\bhow (?:do|would|can) you say\b|\bcomment (?:dit-on|dites-vous|dis-tu|est-ce qu'on dit)\b",
    re.IGNORECASE,
)
"""An instruction or a question that asks for a translation, in either language; wider than needed on purpose."""
FORBIDDEN = "translate to french"
NEAR_CHARACTERS = 40
_WORD = re.compile(r"[\w'-]+")


def allowed(text: str) -> bool:
    """Whether a sentence or paragraph may be trained on."""
    return INSTRUCTION.search(text) is None


class HeldOutPairs:
    """Finds held-out pairs inside a text: their English and their French both stand in it, whatever is around."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._by_start: dict[tuple[str, ...], list[tuple[str, str, Pair]]] = defaultdict(list)
        for pair in pairs:
            if pair.split == "heldout_dev":
                en, fr = _words(pair.en), _words(pair.fr)
                self._by_start[tuple(en[:2])].append((_line(en), _line(fr), pair))

    def within(self, text: str) -> Iterator[Pair]:
        """The held-out pairs in the text, by whole words. Only those are compared whose English starts with words of it."""
        words = _words(text)
        line = _line(words)
        for key in {(word,) for word in words} | set(pairwise(words)):
            for en, fr, pair in self._by_start.get(key, ()):
                if en in line and fr in line:
                    yield pair


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _line(words: Sequence[str]) -> str:
    return f" {' '.join(words)} "


class Rules:
    """The three rules over one corpus, made once for many rows."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._everyday = [pair.en.strip(" .!?").lower() for pair in pairs if pair.split == "demo_core"]
        self._held = HeldOutPairs(pairs)

    def violations(self, rows: Iterable[str]) -> Iterator[str]:
        """A sentence for every breach in packed rows (one row each: the text between two end marks)."""
        for row in rows:
            lower = row.lower()
            if FORBIDDEN in lower:
                yield f"the forbidden words in {row!r}"
            for match in INSTRUCTION.finditer(lower):
                around = lower[max(0, match.start() - NEAR_CHARACTERS) : match.end() + NEAR_CHARACTERS]
                near = next((phrase for phrase in self._everyday if re.search(rf"\b{re.escape(phrase)}\b", around)), None)
                if near is not None:
                    yield f"the everyday phrase {near!r} near an instruction to translate in {row!r}"
            yield from (f"the held-out pair {pair.en!r} = {pair.fr!r} in {row!r}" for pair in self._held.within(row))


def violations(rows: Iterable[str], pairs: Sequence[Pair]) -> Iterator[str]:
    """The breaches of ``Rules`` in some rows."""
    return Rules(pairs).violations(rows)
