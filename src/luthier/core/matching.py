"""When two answers count as equal. Pure; called by ``evaluation/report.py`` and ``cli/demo_data.py``.

What it does not: judge meaning; that is for graders.
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


def words(text: str) -> str:
    """Letters and digits in lower case with single spaces, accents kept: to see whether one text contains another."""
    folded = unicodedata.normalize("NFC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in folded).split())
