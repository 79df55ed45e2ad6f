"""Finds answers that should not be learned: refused, blank, stand-ins, cut off, broken JSON, and stray spaces at their ends.

What it does: refusals and stand-ins by their wording in English and French; what is a fault only when most other answers are without
it (no full stop, no closing brace, a space in front) is counted on both sides and reported only where one side is the exception.
What it does not: judge what an answer says. Called by the doctor.
"""

import re
from collections.abc import Iterator

import orjson

from luthier.core.doctor_report import DoctorFinding, Weight
from luthier.data.detectors.seen_row import SeenRow, answers_of
from luthier.data.detectors.tally import Tally, beginning, have, printable, rows

_REFUSAL_BEGINNINGS = (
    r"(?:I['’]m|I am) (?:\w+ )?(?:sorry|afraid)\b|sorry\b|my apologies\b|I (?:must |do )?apologi[sz]e\b|as an? (?:\w+ ){0,3}(?:AI|language model|assistant)\b"
    r"|unfortunately\b|(?:je suis |vraiment )?désolée?\b|je (?:suis au )?regrette?\b|je m['’]excuse\b|malheureusement\b|en tant qu"
)
_REFUSED = (
    r"I (?:really )?(?:can['’]?t|cannot|can not|won['’]t|will not|am not able to|am unable to|['’]m unable to|['’]m not able to)"
    r"|I['’]m (?:unable|not able) to|je ne (?:peux|puis|pourrai|saurais) (?:malheureusement )?pas|je ne suis (?:malheureusement )?pas (?:en mesure|capable|autorisée?)"
)
_ACTS = (
    r"assist\b|help (?:you )?with (?:that|this|your|the)\b|comply|fulfil|provide|generate|create|discuss|engage|do that[.,!]|answer (?:that|this|your)|process"
    r"|(?:vous |t['’])aider (?:avec|sur|dans|à ce)\b|répondre à (?:cette|votre|ta)\b|fournir|donner suite|accéder à|traiter|générer|satisfaire"
)
_ACTS_AFTER_SORRY = (
    r"help(?: you)?(?: with\b|[.,!]|\Z)|answer|offer|produce|share|access|browse|support|continue|do this|(?:vous |t['’])?aider|répondre|faire cela|créer"
    r"|de (?:vous |t['’])?(?:aider|répondre|fournir|faire|générer|traiter|donner)"
)
_REFUSAL = re.compile(
    rf"\A\W*(?:(?:{_REFUSAL_BEGINNINGS})[^.!?\n]{{0,80}}?[,.!;:]? ?(?:but |mais |however,? |cependant,? )?(?:{_REFUSED}) (?:\w+ )?(?:{_ACTS}|{_ACTS_AFTER_SORRY})"
    rf"|(?:{_REFUSED}) (?:{_ACTS}))",
    re.IGNORECASE,
)
_REFUSAL_SIGNS = ("an't", "an’t", "annot", "can not", "nable", "not able", "on't", "on’t", "will not", " pas ")
_REFUSAL_HEAD = 240
_STAND_INS = frozenset(
    {
        *("n/a", "#n/a", "todo", "tbd", "tba", "fixme", "xxx", "null", "nan", "undefined", "-", "--", "---", "...", "…", "?", "??", "???"),
        *("lorem ipsum", "placeholder", "answer here", "your answer here", "to be completed", "à compléter", "à faire", "à définir", "s/o"),
    }
)
_LONG_STAND_IN = 24
_LABEL_ROWS, _LABEL_SHARE = 10, 0.05
"""A stand-in in so many rows, and in this share of all, is a label that is meant."""
_SENTENCES = 40
"""Characters of an answer that is long enough to be made of sentences."""
_MIN_WORDS = 8
_MIN_ANSWERS = 20
_MOST = 0.8
_LIST_LINE = re.compile(r"\s*(?:[-*•–|>#]|\d{1,3}[.)])")
_ENDS_OPEN = re.compile(r"[\w,(–—-]")
_LONGEST_WORD = 200


class AnswerFaults:
    """Counts answers with each fault."""

    codes = ("blank_answer", "placeholder_answer", "refused_answer", "unfinished_answer", "truncated_json", "answer_whitespace")

    def __init__(self) -> None:
        self._rows = 0
        self._blank, self._refused = Tally(), Tally()
        self._stand_ins: dict[str, Tally] = {}
        self._finished = 0
        self._unfinished = Tally()
        self._json = 0
        self._no_json = Tally()
        self._leading, self._not_leading = Tally(), Tally()
        self._trailing, self._not_trailing = Tally(), Tally()

    def see(self, row: SeenRow) -> None:
        """Look at the trained answers of a row."""
        answers = [text for text in answers_of(row) if text]
        refused = any(text.trained and text.path.endswith(".refusal") for text in row.texts)
        if not answers:
            return
        self._rows += 1
        if blank := [text for text in answers if text.isspace()]:
            self._blank.add(row.line, printable(repr(blank[0][:10])))
            return
        self._ends(row.line, answers)
        for text in answers:
            if len(text) <= _LONG_STAND_IN and (plain := text.strip().strip("[]()<>*_.").casefold() or text.strip()) in _STAND_INS:
                self._stand_ins.setdefault(plain, Tally()).add(row.line, printable(text))
                return
        refusal = next((text for text in answers if _is_refusal(text)), answers[0] if refused else None)
        if refusal is not None:
            self._refused.add(row.line, beginning(refusal))
        self._whole(row.line, answers[-1])

    def _ends(self, line: int, answers: list[str]) -> None:
        (self._leading if any(text[0].isspace() for text in answers) else self._not_leading).add(line)
        (self._trailing if any(text[-1].isspace() for text in answers) else self._not_trailing).add(line)

    def _whole(self, line: int, answer: str) -> None:
        """Whether the last answer is whole: JSON that parses, or sentences that end."""
        text = answer.strip()
        if text.startswith(("{", "[")):
            try:
                orjson.loads(text)
                self._json += 1
            except orjson.JSONDecodeError:
                self._no_json.add(line, _end(text))
            return
        if len(text) < _SENTENCES or text.count(" ") < _MIN_WORDS - 1 or "```" in text:
            return
        last_word = text[-_LONGEST_WORD:].rsplit(None, 1)[-1]
        is_open = _ENDS_OPEN.match(text[-1]) and not any(mark.isdigit() or mark in "/@" for mark in last_word)
        if not is_open or _LIST_LINE.match(text, text.rfind("\n") + 1):
            self._finished += 1
        else:
            self._unfinished.add(line, _end(text))

    def findings(self) -> Iterator[DoctorFinding]:
        """What is wrong with answers."""
        if self._blank.count:
            yield self._blank.finding(
                "blank_answer",
                Weight.SERIOUS,
                finding=f"{have(self._blank.count)} an answer of white space only.",
                why="The model learns to say nothing.",
                cure="Write the answers, or remove the rows.",
            )
        yield from self._about_stand_ins()
        if self._refused.count:
            yield self._refused.finding(
                "refused_answer",
                Weight.WORTH_A_LOOK,
                finding=f"{have(self._refused.count, 'refuses', 'refuse')} to answer, of {self._rows:,}.",
                why="A few refusals make a tuned model refuse much more than was meant.",
                cure="Keep those that are meant, and remove or answer the others.",
            )
        yield from self._about_unfinished()
        yield from self._about_json()
        yield from self._about_ends()

    def _about_stand_ins(self) -> Iterator[DoctorFinding]:
        total = Tally()
        counted = [t for t in self._stand_ins.values() if t.count < max(_LABEL_ROWS, _LABEL_SHARE * self._rows)]
        for tally in counted:
            total.count += tally.count
            total.examples += tally.examples[:1]
            total.lines += tally.lines
        if not counted:
            return
        total.lines, total.examples = sorted(total.lines)[:50], total.examples[:3]
        yield total.finding(
            "placeholder_answer",
            Weight.WORTH_A_LOOK,
            finding=f"{have(total.count)} a stand-in for an answer.",
            why="The model learns to say N/A or TODO where it should answer.",
            cure="Write the answers, or remove the rows.",
        )

    def _about_unfinished(self) -> Iterator[DoctorFinding]:
        total = self._finished + self._unfinished.count
        if not self._unfinished.count or total < _MIN_ANSWERS or self._finished < _MOST * total:
            return
        yield self._unfinished.finding(
            "unfinished_answer",
            Weight.WORTH_A_LOOK,
            finding=f"{have(self._unfinished.count)} an answer that stops within a sentence; {self._finished:,} of {total:,} long ones end properly.",
            why="The model learns to stop in the middle; often a limit of length cut the answers off.",
            cure="Complete these answers, or remove the rows.",
        )

    def _about_json(self) -> Iterator[DoctorFinding]:
        if self._no_json.count and self._json >= self._no_json.count:
            yield self._no_json.finding(
                "truncated_json",
                Weight.SERIOUS,
                finding=f"{have(self._no_json.count)} an answer that begins as JSON and is none; {rows(self._json)} have answers that are.",
                why="The model learns to write JSON that no program can read.",
                cure="Write the answers anew with a JSON library, or remove the rows.",
            )

    def _about_ends(self) -> Iterator[DoctorFinding]:
        for where, with_space, without in (
            ("begin", self._leading, self._not_leading),
            ("end", self._trailing, self._not_trailing),
        ):
            few, many, does = (with_space, without, "") if with_space.count <= without.count else (without, with_space, " no")
            if few.count and many.count:
                whose = f"The answer of 1 row {where}s" if few.count == 1 else f"The answers of {rows(few.count)} {where}"
                yield few.finding(
                    "answer_whitespace",
                    Weight.WORTH_A_LOOK,
                    finding=f"{whose} with{does} white space, unlike the other {many.count:,}.",
                    why="Spaces and line ends are tokens: answers that differ in them teach the model to guess.",
                    cure="Strip the answers, or give all of them the same ends.",
                )


def _is_refusal(text: str) -> bool:
    head = text[:_REFUSAL_HEAD]
    return any(sign in head for sign in _REFUSAL_SIGNS) and _REFUSAL.match(head) is not None


def _end(text: str) -> str:
    """The end of a text, on one line."""
    return "..." + beginning(text[-40:]) if len(text) > 40 else beginning(text)
