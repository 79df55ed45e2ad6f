"""Measures of one answer and of many. Pure; called by ``evaluation/report.py`` and the demo's tests.

What it does not: generate answers (``runner.py``).
"""

import re
import unicodedata

_SPACE = re.compile(r"\s+")
_EDGE_PUNCTUATION = " .!?…;:,\"'«»“”‘’¡¿"


def normalise(text: str) -> str:
    """NFC, lower case, one space between words, typographic apostrophes made plain, punctuation at both ends removed."""
    plain = unicodedata.normalize("NFC", text).replace("\u2019", "'").replace("\u00a0", " ").replace("\u202f", " ")
    return _SPACE.sub(" ", plain).strip(_EDGE_PUNCTUATION).lower()


def exact_match(answer: str, expected: str) -> bool:
    """True when both are equal after ``normalise``."""
    return normalise(answer) == normalise(expected)
