"""Ids of many texts at once, for tokenizers whose words are certain (``word_memo.fits``): a number for each word, and columns of their ids.

What it does: asks the tokenizer once for each word, and gives the ids of any row of words as one array. What it does not: know of messages,
or cut texts into words. Called by ``bulk.py``.

A *word* is what single spaces set apart; it is read with the space before it. The first word of a content has none: a *head* is such a
word with all that the template writes before it, from the end of the content before.
"""

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding
from tokenizers import Tokenizer as FastTokenizer

_MOST_WORDS = 1 << 18
_MOST_IDS = 1 << 22

UNFIT, SPACED = 1, 2
"""Why a row is not what its words are: one holds a mark, or a token lies over the beginning of an answer; white space at the ends of one
makes the space that set it apart no certain border."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WordRow:
    """Ids of a row of words. W words, N ids."""

    ids_N: np.ndarray
    """int32."""
    starts_W: np.ndarray
    """int64 place of each word's first id."""
    firsts_W: np.ndarray
    """int32; of a head, how many of its ids stand before the first that holds a character of its word."""


class Head(dict[str, int]):
    """Numbers of first words after one literal. The empty word stands for the literal alone."""

    def __init__(self, words: "WordIds", literal: str, opening: str, *, is_cut: bool) -> None:
        super().__init__()
        self._words = words
        self._opening = opening
        self._before = words.encode(literal.removesuffix(opening)).ids
        self._opened = words.encode(opening).ids
        self._is_cut = is_cut
        self.num_marked = len(self._before)
        """Ids up to the literal's last mark."""
        self.num_ids = self.num_marked + len(self._opened)
        """Ids of the literal."""

    def __missing__(self, word: str) -> int:
        encoding = self._words.encode(self._opening + word)
        ids = encoding.ids
        first = next((i for i, (_, end) in enumerate(encoding.offsets) if end > len(self._opening)), len(ids))
        flags = self._words.flags(word) if word else 0
        if self._is_cut and ids[: len(self._opened)] != self._opened:
            flags |= UNFIT
        number = self[word] = self._words.add([*self._before, *ids], len(self._before) + first, flags)
        return number


class WordIds(dict[str, int]):
    """Numbers of words that follow a space."""

    def __init__(self, fast: FastTokenizer, marks: Sequence[str]) -> None:
        """``marks``: texts that the tokenizer takes out of a text before anything else."""
        super().__init__()
        self._fast = fast
        self._marks = re.compile("|".join(map(re.escape, marks))) if marks else None
        self._heads: dict[tuple[str, str, bool], Head] = {}
        self._ids, self._starts, self._counts = array("i"), array("i"), array("i")
        self._firsts, self._flags = array("i"), array("b")

    def head(self, literal: str, opening: str, *, is_cut: bool) -> Head:
        """The heads after a literal.

        Args:
            literal: what the template writes.
            opening: its end, after its last mark.
            is_cut: whether a token border must fall between the literal and the word.
        """
        key = (literal, opening, is_cut)
        if key not in self._heads:
            self._heads[key] = Head(self, literal, opening, is_cut=is_cut)
        return self._heads[key]

    def make_room(self) -> None:
        """Forget all words when there are many: memory stays bounded whatever a file holds. Earlier numbers mean nothing afterwards."""
        if len(self._starts) <= _MOST_WORDS and len(self._ids) <= _MOST_IDS:
            return
        for numbers in (self, *self._heads.values()):
            numbers.clear()
        for column in (self._ids, self._starts, self._counts, self._firsts, self._flags):
            del column[:]

    def __missing__(self, word: str) -> int:
        number = self[word] = self.add(self.encode(" " + word).ids, 0, self.flags(word))
        return number

    def encode(self, text: str) -> Encoding:
        """As the tokenizer does, without marks of its own."""
        return self._fast.encode(text, add_special_tokens=False)

    def flags(self, word: str) -> int:
        """``SPACED``, ``UNFIT``, both or neither."""
        spaced = SPACED if not word or word[0].isspace() or word[-1].isspace() else 0
        return spaced | (UNFIT if self._marks is not None and self._marks.search(word) else 0)

    def add(self, ids: Sequence[int], first: int, flags: int) -> int:
        """Number a word."""
        self._starts.append(len(self._ids))
        self._counts.append(len(ids))
        self._ids.extend(ids)
        self._firsts.append(first)
        self._flags.append(flags)
        return len(self._starts) - 1

    def flags_of(self, numbers_W: np.ndarray) -> np.ndarray:
        """int8 flags of words."""
        return np.frombuffer(self._flags, dtype=np.int8)[numbers_W]

    def row(self, numbers_W: np.ndarray) -> WordRow:
        """The ids of words, one after the other."""
        starts, counts, firsts, ids = (np.frombuffer(c, dtype=np.int32) for c in (self._starts, self._counts, self._firsts, self._ids))
        counts_W = counts[numbers_W].astype(np.int64)
        starts_W = np.cumsum(counts_W) - counts_W
        places_N = np.repeat(starts[numbers_W] - starts_W, counts_W)
        places_N += np.arange(len(places_N))
        return WordRow(ids_N=ids[places_N], starts_W=starts_W, firsts_W=firsts[numbers_W])
