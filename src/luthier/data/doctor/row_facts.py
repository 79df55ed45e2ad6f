"""What is kept of every row: hashes and sizes in columns, about a hundred bytes a row, none of its texts.

What it does: takes rows one by one, in the file's order; counts short answers, because they may be labels. What it does not:
judge. Called by ``examine.py``; the checks read the columns.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from luthier.core.examples import RowFormat
from luthier.data.doctor.draft import fold, question_of
from luthier.data.doctor.row import DoctorRow
from luthier.data.word_sets import Groups, WordSets

LABEL_CHARACTERS = 40
_MAX_SHORT_ANSWERS = 50_000
_MAX_TURNS = 10_000
_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
_ALL_BITS = (1 << 64) - 1
_KEYS = ("raw", "folded", "prompt", "folded_prompt", "answer", "folded_answer", "rejected", "system")
_SIZES = ("line", "question_chars", "prompt_chars", "answer_chars", "size", "turns")


class RowFacts:
    """The rows of one file, and what is nearly the same among them."""

    def __init__(self, library: Any | None) -> None:
        """Begin without rows; ``library`` is what ``word_sets.minhash`` gave, None leaves near duplicates out."""
        self.row_format = RowFormat.CHAT
        """Of the file; set before the first row."""
        self._keys = {name: array("Q") for name in _KEYS}
        self._sizes = {name: array("I") for name in _SIZES}
        self._echoes = array("B")
        self._library = library
        self._words = WordSets()
        self._with_words = array("I")
        self._seen: set[int] = set()
        self.short_answers: Counter[str] | None = Counter()
        """Answer as it is (spaces at its ends aside) -> rows; None when there are too many to be labels."""
        self.turns: list[tuple[str, ...]] = []
        """Roles of the messages, one after the other; ``sizes("turns")`` holds positions in this list."""
        self._last_system = "", 0
        self._turn_numbers: dict[tuple[str, ...], int] = {}

    def __len__(self) -> int:
        return len(self._echoes)

    def add(self, row: DoctorRow, raw: Mapping[str, Any], data: bytes) -> None:
        """Take the next row.

        Args:
            row: in the doctor's shape.
            raw: its JSON object.
            data: its line.
        """
        asked_of = raw["input"] if self.row_format is RowFormat.PREFERENCE else raw
        tools = _tools(asked_of)
        prompt, answer = fold(row.prompt), fold(row.answer)
        rejected = next((text.text for text in row.texts if text.path.startswith("non_preferred")), None)
        of_prompt, of_answer = _key(tools + prompt), _key(answer)
        of_rejected = 0 if rejected is None else _key(fold(rejected))
        folded = (of_prompt * _FACTORS[0] + of_answer * _FACTORS[1] + of_rejected * _FACTORS[2]) & _ALL_BITS
        values = (
            _hash(data.strip()),
            folded,
            # Most texts of most files differ from their folded ones, so both are hashed.
            _key(tools + row.prompt),
            of_prompt,
            _key(row.answer.strip()),
            of_answer,
            of_rejected,
            self._system([text.text for text in row.texts if text.role == "system"]),
        )
        for name, value in zip(_KEYS, values, strict=True):
            self._keys[name].append(value)
        asked = sum([len(text.text) for text in row.texts if not text.trained and text.role != "system"])
        turns = self._turns(asked_of)
        for name, number in zip(_SIZES, (row.line, asked, len(row.prompt), len(row.answer), len(data), turns), strict=True):
            self._sizes[name].append(number)
        self._echoes.append(_echo(question_of(row), answer))
        self._count(row.answer.strip())
        if self._library is not None and folded not in self._seen:
            # Copies are told by their hash, so only one of them is worth its words. What all prompts share, roles and system
            # prompt, is left out later as common.
            self._seen.add(folded)
            self._words.add(f"{prompt}\n{answer}" if rejected is None else f"{prompt}\n{answer}\n{fold(rejected)}")
            self._with_words.append(len(self) - 1)

    def keys(self, name: str) -> NDArray[np.uint64]:
        """A column of hashes: raw, folded, prompt, folded_prompt, answer, folded_answer, rejected, system (0 where there is none)."""
        return np.frombuffer(self._keys[name], dtype=np.uint64) if len(self) else np.zeros(0, np.uint64)

    def sizes(self, name: str) -> NDArray[np.uint32]:
        """A column of numbers: line, question_chars, prompt_chars, answer_chars, size (bytes of the line), turns."""
        return np.frombuffer(self._sizes[name], dtype=np.uint32) if len(self) else np.zeros(0, np.uint32)

    def echoes(self) -> NDArray[np.uint8]:
        """1 where the answer is the last question again, 2 where it only begins with it, else 0."""
        return np.frombuffer(self._echoes, dtype=np.uint8) if len(self) else np.zeros(0, np.uint8)

    def near(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows (no two of them equal), and for each the first row of those that say nearly the same. Once only."""
        groups = Groups(len(self._with_words))
        if self._library is not None:
            for one, other in self._words.links(self._library):
                groups.join(one, other)
        self._words.close()
        rows = np.asarray(self._with_words, dtype=np.int64)
        return rows, rows[groups.labels()] if len(rows) else rows

    def _count(self, answer: str) -> None:
        if answer and self.short_answers is not None and len(answer) <= LABEL_CHARACTERS:
            self.short_answers[answer] += 1
            if len(self.short_answers) > _MAX_SHORT_ANSWERS:
                self.short_answers = None

    def _system(self, texts: list[str]) -> int:
        """The key of a system prompt; 0 for none. Most rows have the one of the row before."""
        if not texts:
            return 0
        system = "\n".join(texts)
        if system != self._last_system[0]:
            self._last_system = system, _key(system)
        return self._last_system[1]

    def _turns(self, asked_of: Mapping[str, Any]) -> int:
        turns = tuple([message["role"] for message in asked_of.get("messages") or ()])
        number = self._turn_numbers.get(turns)
        if number is None:
            if len(self.turns) >= _MAX_TURNS:
                return 0
            number = self._turn_numbers[turns] = len(self.turns)
            self.turns.append(turns)
        return number


def answer_key(answer: str) -> int:
    """The hash under which an answer stands in the column ``answer``."""
    return _key(answer.strip())


def _echo(question: str, answer: str) -> int:
    """See ``RowFacts.echoes``; ``answer`` is folded, ``question`` is not, because the first word mostly decides."""
    first = question.split(None, 1)[:1]
    if not first or not answer.startswith(first[0].casefold()):
        return 0
    question = fold(question)
    if not answer.startswith(question):
        return 0
    return 1 if len(answer) == len(question) else 2


def _tools(asked_of: Mapping[str, Any]) -> str:
    """What tools a row offers: rows that differ in them do not ask the same."""
    if len(asked_of) == 1:
        return ""
    offered = [asked_of[name] for name in ("tools", "functions") if asked_of.get(name)]
    return orjson.dumps(offered).decode() if offered else ""


def _key(text: str) -> int:
    return _hash(text.encode())


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
