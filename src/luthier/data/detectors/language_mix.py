"""Finds which languages prompts and answers are in, and answers in another language than the rows around them.

What it does: keeps a seeded sample of the rows (all of them where there are few), and tells their languages with py3langid at the
end. A text that is short, is code, or that the library is not sure of has no language. What it does not: need a model to be fetched
or a network. Called by the doctor.
"""

import importlib
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from luthier.core.doctor_report import DoctorFinding, Weight
from luthier.data.detectors.seen_row import SeenRow
from luthier.data.detectors.tally import Tally, beginning, have, rows

SAMPLE = 2_000
"""Rows that are kept; telling the languages of so many takes one to two seconds."""
_SEED = 20261126
_CHARACTERS = 300
_LEAST_LETTERS = 20
_SURE = 0.8
_VERY_SURE, _MANY_LETTERS = 0.95, 30
"""An answer is called an exception only if its language is beyond doubt."""
_MOST = 0.9
_LEAST_ROWS = 10
_NO_WORDS = re.compile(r"https?://\S+|[^\W\d_]*\d\w*|[\W\d_]+")
# Languages that short texts do not tell apart count as one.
_ALIKE = {"nb": "no", "nn": "no", "da": "no", "hr": "sr", "bs": "sr", "ms": "id", "gl": "pt", "pcm": "en"}
_NAMES = {
    **{"en": "English", "fr": "French", "de": "German", "es": "Spanish", "it": "Italian", "pt": "Portuguese", "nl": "Dutch", "ru": "Russian"},
    **{"zh": "Chinese", "ja": "Japanese", "ko": "Korean", "ar": "Arabic", "tr": "Turkish", "pl": "Polish", "sv": "Swedish", "vi": "Vietnamese"},
    **{"no": "Norwegian or Danish", "sr": "Serbo-Croatian", "id": "Indonesian or Malay", "hi": "Hindi", "uk": "Ukrainian", "cs": "Czech"},
}

Identify = Callable[[str], tuple[str, float]]
"""Tells the language of a text (ISO 639-1) and how sure that is, from 0 to 1."""


class _Kept(NamedTuple):
    line: int
    prompt: str
    answer: str


class LanguageMix:
    """Keeps a sample of rows and tells their languages."""

    codes = ("language_mix", "answer_language")

    def __init__(self, identify: Identify) -> None:
        self._identify = identify
        self._draw = random.Random(_SEED)
        self._kept: list[_Kept] = []
        self._seen = 0

    def see(self, row: SeenRow) -> None:
        """Keep the row, or not: each row has the same chance."""
        self._seen += 1
        if len(self._kept) < SAMPLE:
            place = len(self._kept)
            self._kept.append(_Kept(0, "", ""))
        elif (place := int(self._draw.random() * self._seen)) >= SAMPLE:
            return
        asked = next((text.text for text in reversed(row.texts) if text.role == "user" and not text.trained), "")
        # The end of a long prompt is what is asked; an answer's beginning tells its language.
        self._kept[place] = _Kept(row.line, asked[-_CHARACTERS:], row.answer[:_CHARACTERS])

    def findings(self) -> Iterator[DoctorFinding]:
        """The languages, and the exceptions."""
        known: list[tuple[_Kept, str, str, bool]] = []
        for kept in sorted(self._kept):
            prompt, _ = self._language(kept.prompt)
            answer, is_certain = self._language(kept.answer)
            known.append((kept, prompt, answer, is_certain))
        yield from self._about_mix(known)
        yield from self._about_exceptions(known)

    def _language(self, text: str) -> tuple[str, bool]:
        """A language, or nothing where it cannot be told; and whether it is beyond doubt."""
        if text.lstrip().startswith(("{", "[", "<")) or "```" in text:
            return "", False
        words = _NO_WORDS.sub(" ", text).strip()
        if len(words) < _LEAST_LETTERS and words.isascii():
            return "", False
        language, sure = self._identify(words)
        if sure < _SURE:
            return "", False
        return _ALIKE.get(language, language), sure >= _VERY_SURE and (len(words) >= _MANY_LETTERS or not words.isascii())

    def _measured_on(self) -> int | None:
        return len(self._kept) if self._seen > len(self._kept) else None

    def _about_mix(self, known: list[tuple[_Kept, str, str, bool]]) -> Iterator[DoctorFinding]:
        prompts, answers = (Counter(entry[side] for entry in known if entry[side]) for side in (1, 2))
        if not prompts and not answers:
            return
        tally = Tally()
        tally.count = len(known)
        sentence = _shares("Prompts", prompts, len(known))
        if answered := sum(bool(entry[0].answer) for entry in known):
            sentence += " " + _shares("Answers", answers, answered)
        yield tally.finding(
            "language_mix",
            Weight.INFORMATION,
            finding=sentence,
            why="A model answers in the languages that it was tuned on, in about these shares.",
            cure="Nothing, if this is the mix that you mean.",
            measured_on=self._measured_on(),
        )

    def _about_exceptions(self, known: list[tuple[_Kept, str, str, bool]]) -> Iterator[DoctorFinding]:
        by_prompt: dict[str, Counter[str]] = {}
        for _, prompt, answer, _ in known:
            if prompt and answer:
                by_prompt.setdefault(prompt, Counter())[answer] += 1
        usual: dict[str, str] = {}
        for prompt, answers in by_prompt.items():
            language, count = answers.most_common(1)[0]
            if count >= _LEAST_ROWS and count >= _MOST * answers.total():
                usual[prompt] = language
        tally = Tally()
        pairs: Counter[tuple[str, str, str]] = Counter()
        for kept, prompt, answer, is_certain in known:
            if prompt in usual and is_certain and answer != usual[prompt]:
                tally.add(kept.line, f"{_name(answer)}: {beginning(kept.answer)}")
                pairs[prompt, answer, usual[prompt]] += 1
        if not tally.count:
            return
        (prompt, answer, majority), _ = pairs.most_common(1)[0]
        yield tally.finding(
            "answer_language",
            Weight.WORTH_A_LOOK,
            finding=f"{have(tally.count)} an answer in another language than most: {_name(answer)} to a prompt in {_name(prompt)}, where "
            f"the usual answer is in {_name(majority)}.",
            why="The model learns to change its language without a reason in the prompt.",
            cure="Translate these answers or remove the rows, unless the prompt asks for that language.",
            measured_on=self._measured_on(),
        )


def _shares(what: str, counts: Counter[str], total: int) -> str:
    known = counts.total()
    if not known:
        return f"{what} are too short to tell their language."
    named = [f"{_name(language)} {count / known:.1%}" for language, count in counts.most_common(4)]
    rest = known - sum(count for _, count in counts.most_common(4))
    others = f", others {rest / known:.1%}" if rest else ""
    return f"{what}: {', '.join(named)}{others} (of {rows(known)}; {total - known:,} could not be told)."


def _name(language: str) -> str:
    return _NAMES.get(language, language)


def identifier() -> Identify | None:
    """The library that tells languages; None where py3langid is not installed."""
    try:
        library = importlib.import_module("py3langid.langid")
    except ImportError:
        return None
    loaded: list[Identify] = []

    def identify(text: str) -> tuple[str, float]:
        if not loaded:  # its model takes two seconds to read: only files with rows pay for it
            loaded.append(library.LanguageIdentifier.from_model_file(library.MODEL_FILE, norm_probs=True).classify)
        return loaded[0](text)

    return identify
