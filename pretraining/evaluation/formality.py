"""Which form of address a French sentence uses: *vous* or *tu*.

What it does: patterns over one sentence. What it does not: know grammar; a sentence whose form cannot be told from its words has none.
Called by ``preference.py``.
"""

import re

_START = r"(?:^|[.!?…:;]\s*|[\"«(]\s*|- )"
_NOT_AN_ADDRESS = re.compile(
    r"\brendez-vous\b(?! compte)"  # a noun, save in "rendez-vous compte"
    r"|\b(?:le|un|du|au|quel|même|bon|mauvais|son|mon) ton\b|(?<=votre )ton\b"  # a tone, not "your"
    r"|-t'(?=ils?\b|elles?\b|on\b)",  # a common slip for "-t-il"
    re.IGNORECASE,
)
_VOUS = re.compile(
    r"\b(?i:vous|vos|votre|vôtres?)\b"
    # Second person plural by its ending. A name has a capital inside a sentence, a verb only at its start.
    rf"|(?:{_START})(?!(?:Nez|Chez|Assez|Rez)\b)[A-ZÀ-Ý][a-zà-ÿœ'-]*ez\b|\b(?!(?:nez|chez|assez|rez|gaz|fez)\b)[a-zà-ÿœ]{{2,}}ez\b"
    # The two plural imperatives without that ending are also participles: only where a sentence starts, or beside "ne".
    rf"|(?:{_START})(?:Dites|Faites)\b|\b[Nn]e (?:(?:me|le|la|les|lui|leur|nous|en|y) )*(?:dites|faites)\b|\b(?:dites|faites)-"
)
_TU = re.compile(
    r"\b(?:tu|te|toi|ton|ta|tes)\b|\bt'(?=\w)|\b(?:le tien|la tienne|les tiens|les tiennes)\b"
    # An imperative with a pronoun behind it; those of "vous" and "nous" end in -ez, -tes, -ons ("-mes" is no imperative).
    r"|(?<![\w-])(?!\w*(?:ez|tes|ons|mes)-)\w{2,}(?:-(?:le|la|les))?-(?:moi|lui|leur|nous)\b(?!-)",
    re.IGNORECASE,
)


def form_of(text: str) -> int | None:
    """1 for *vous*, 0 for *tu*, None when the text shows neither or both.

    An imperative alone ("Viens", "Partez") counts as *vous* by its ending -ez; its *tu* form cannot be told from other words, save with
    a pronoun behind it ("Dis-moi"). The rule therefore misses more of *tu* than of *vous*; both models of a comparison meet the same rule.
    """
    vous, tu = shown_forms(text)
    return int(vous) if vous != tu else None


def shown_forms(text: str) -> tuple[bool, bool]:
    """Whether *vous* and whether *tu* is shown."""
    plain = _NOT_AN_ADDRESS.sub(" ", text.replace("\u2019", "'").replace("\u00a0", " ").replace("\u202f", " "))
    return _VOUS.search(plain) is not None, _TU.search(plain) is not None
