"""The ids of words that came before: most of a text's tokens are found in a table instead of being worked out again.

What it does: cuts a text where its tokenizer is certain to cut it too, and remembers what each piece gave. What it does not: guess;
``fits`` says for which tokenizers the cuts are certain, all others are asked as ever. Called by ``tokenizer.py``.

Why the cuts are certain: the byte-level tokenizers that ``fits`` accepts first take their added marks out of a text, then split the
rest by expressions in which a space can only begin a match or stand in a run of white space, and encode each part for itself. So a
border falls before every single space between two visible characters, and nothing on one side of it changes the ids on the other.
The tests compare with the tokenizers themselves on random texts.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain
from operator import itemgetter
from typing import Any

from tokenizers import Tokenizer as FastTokenizer

_MOST_KEPT = 1 << 15
"""Pieces of one generation; there are two."""
_LONGEST_KEPT = 48
"""Characters. Longer pieces (text without spaces) seldom come again."""
_SPACE_BETWEEN = re.compile(r"(?<=\S)(?= \S)")
_SPLITS = frozenset(
    (
        # Llama 3, Qwen 2 and 3, and GPT-2's own, which ByteLevel has built in.
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    )
)


_Piece = tuple[list[int], list[tuple[int, int]]]
"""Ids of a piece of text, and the characters of it that each stands for."""
_IDS = itemgetter(0)


class WordEncoding:
    """Ids of a text; answers the questions about characters that the library's own ``Encoding`` answers."""

    __slots__ = ("_chars", "_pieces", "_tokens", "ids")

    def __init__(self, texts: Sequence[str], pieces: Sequence[_Piece]) -> None:
        self._pieces = pieces
        ids = list(map(_IDS, pieces))
        self.ids: list[int] = list(chain.from_iterable(ids))
        self._chars = list(accumulate(map(len, texts), initial=0))
        self._tokens = list(accumulate(map(len, ids), initial=0))

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Characters that each id stands for."""
        return [(a + at, b + at) for (_, offsets), at in zip(self._pieces, self._chars, strict=False) for a, b in offsets]

    def char_to_token(self, position: int) -> int | None:
        """The token that holds a character; None when none does."""
        number = bisect_right(self._chars, position) - 1
        if not 0 <= number < len(self._pieces):
            return None
        inside = position - self._chars[number]
        for token, (start, end) in enumerate(self._pieces[number][1]):
            if start <= inside < end:
                return self._tokens[number] + token
        return None

    def token_to_chars(self, token: int) -> tuple[int, int] | None:
        """The characters that a token stands for; None when there is no such token."""
        if not 0 <= token < len(self.ids):
            return None
        number = bisect_right(self._tokens, token) - 1
        start, end = self._pieces[number][1][token - self._tokens[number]]
        return start + self._chars[number], end + self._chars[number]


class _Known(dict[str, _Piece]):
    """Pieces by their text; a piece that is not known is asked of the tokenizer.

    When there are many, what did not come again since there were as many last is forgotten.
    """

    def __init__(self, fast: FastTokenizer) -> None:
        super().__init__()
        self._fast = fast
        self._older: dict[str, _Piece] = {}

    def __missing__(self, text: str) -> _Piece:
        return self.recalled(text) or self.keep(text, self._fast.encode(text, add_special_tokens=False))

    def recalled(self, text: str) -> _Piece | None:
        """A piece of the older generation, which it leaves."""
        piece = self._older.get(text)
        if piece is not None:
            self[text] = piece
        return piece

    def age(self) -> None:
        """Begin a new generation when this one is full."""
        if len(self) > _MOST_KEPT:
            self._older = dict(self)
            self.clear()

    def keep(self, text: str, encoding: Any) -> _Piece:
        """Remember one piece, if it is worth it."""
        piece = encoding.ids, encoding.offsets
        if len(text) <= _LONGEST_KEPT:
            self[text] = piece
        return piece


class WordMemo:
    """Encodes for one tokenizer that ``fits``."""

    def __init__(self, fast: FastTokenizer, plain: dict[str, Any]) -> None:
        """``plain``: the tokenizer's JSON."""
        self._fast = fast
        self._known = _Known(fast)
        marks = sorted((entry["content"] for entry in plain["added_tokens"]), key=len, reverse=True)
        self._marks = re.compile("(" + "|".join(map(re.escape, marks)) + ")") if marks else None

    def encodings(self, texts: Sequence[str]) -> list[WordEncoding]:
        """Encode texts without adding marks. What is not known in several of them is asked for at once."""
        self._known.age()
        cut = [self._cut(text) for text in texts]
        if len(texts) == 1:
            return [WordEncoding(cut[0], list(map(self._known.__getitem__, cut[0])))]
        missing = [text for text in set(chain.from_iterable(cut)).difference(self._known) if self._known.recalled(text) is None]
        found = {
            t: self._known.keep(t, e) for t, e in zip(missing, self._fast.encode_batch(missing, add_special_tokens=False), strict=True)
        }
        long = {text: piece for text, piece in found.items() if len(text) > _LONGEST_KEPT}
        if not long:
            return [WordEncoding(pieces, list(map(self._known.__getitem__, pieces))) for pieces in cut]
        return [WordEncoding(pieces, [long.get(piece) or self._known[piece] for piece in pieces]) for pieces in cut]

    def _cut(self, text: str) -> list[str]:
        """Pieces of a text, marks for themselves; none is empty."""
        if self._marks is None:
            return [piece for piece in _SPACE_BETWEEN.split(text) if piece]
        pieces: list[str] = []
        for number, part in enumerate(self._marks.split(text)):
            if number % 2:
                pieces.append(part)
            elif part:
                pieces += _SPACE_BETWEEN.split(part)
        return [piece for piece in pieces if piece] if "" in pieces else pieces


def fits(plain: dict[str, Any]) -> bool:
    """Whether a tokenizer, given as its JSON, is one whose cuts are certain."""
    normalizer = plain.get("normalizer")
    # Composition never goes over a space.
    if normalizer is not None and normalizer.get("type") != "NFC":
        return False
    if any(not _is_plain_mark(entry, normalized=normalizer is not None) for entry in plain["added_tokens"]):
        return False
    model, splitter = plain["model"], plain.get("pre_tokenizer") or {}
    if model.get("type") != "BPE" or model.get("dropout") or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return False
    steps = splitter.get("pretokenizers", [splitter])
    return (
        all(_is_known_step(step) for step in steps) and any(_splits(step) for step in steps) and _keeps_offsets(plain.get("post_processor"))
    )


def _is_plain_mark(entry: dict[str, Any], *, normalized: bool) -> bool:
    if entry["lstrip"] or entry["rstrip"] or entry["single_word"] or (normalized and entry["normalized"]):
        return False
    return bool(entry["content"]) and not any(c.isspace() for c in entry["content"])


def _is_known_step(step: dict[str, Any]) -> bool:
    kind = step.get("type")
    if kind == "ByteLevel":
        return not step.get("add_prefix_space", True)
    if kind == "Split":
        return step.get("behavior") == "Isolated" and not step.get("invert") and step.get("pattern", {}).get("Regex") in _SPLITS
    return kind == "Digits"


def _splits(step: dict[str, Any]) -> bool:
    return step["type"] == "Split" or (step["type"] == "ByteLevel" and step.get("use_regex", True))


def _keeps_offsets(processor: dict[str, Any] | None) -> bool:
    """Without marks to add, only ByteLevel's trimming looks at where in a text a token is."""
    steps = [] if processor is None else processor.get("processors", [processor])
    trims = [s for s in steps if s.get("type") == "ByteLevel" and s.get("trim_offsets", True) and s.get("add_prefix_space", True)]
    return not trims and all(s.get("type") in ("ByteLevel", "TemplateProcessing") for s in steps)
