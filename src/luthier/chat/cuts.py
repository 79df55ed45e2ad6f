"""A text to tokens such that a token border falls on every cut.

What it does: the same ids that the whole text gives wherever these have borders at the cuts; where a token would straddle one,
the text is encoded apart from there. The tokens before a cut depend only on the text before it and on earlier cuts: therefore a
generation prompt (which ends at a cut of its example) gives exactly the example's first tokens. What it does not: know what is
cut. Called by ``renderer.py``.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding

from luthier.chat.tokenizer import Tokenizer

# Texts between a special mark and a cut are few (a role's name, a line end): their ids are remembered. Longer ones are not.
_MAX_KEPT_CHARACTERS = 64
_MAX_KEPT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CutText:
    """Tokens of a text with borders at its cuts."""

    ids_T: np.ndarray
    """int64."""
    positions: dict[int, int]
    """Character position of each cut to its token position."""
    specials: list[int]
    """Token positions of special marks, ascending."""
    lookup: "_Offsets | Encoding"
    length: int
    """Characters of the text."""

    def first_token(self, position: int) -> int:
        """The first token that holds a character at or after ``position``."""
        if isinstance(self.lookup, _Offsets):
            return self.lookup.first_token(position)
        for at in range(position, self.length):
            token = self.lookup.char_to_token(at)
            if token is not None:
                return token
        return len(self.ids_T)

    def token_after(self, position: int) -> int:
        """The first token that begins at or after ``position``."""
        if isinstance(self.lookup, _Offsets):
            return self.lookup.token_after(position)
        at = position
        while at < self.length:
            token = self.lookup.char_to_token(at)
            if token is None:
                at += 1
                continue
            start, end = self.lookup.token_to_chars(token) or (at, at + 1)
            if start >= position:
                return token
            at = max(end, at + 1)
        return len(self.ids_T)


class _Offsets:
    """Character ranges of tokens that were put together from several encodings."""

    def __init__(self, offsets: list[tuple[int, int]]) -> None:
        self._starts = [start for start, _ in offsets]
        # Later tokens never end before earlier ones, but for those of no width.
        self._ends: list[int] = []
        for _, end in offsets:
            self._ends.append(max(end, self._ends[-1] if self._ends else 0))

    def first_token(self, position: int) -> int:
        return bisect_right(self._ends, position)

    def token_after(self, position: int) -> int:
        return bisect_left(self._starts, position)


class Cutter:
    """Encodes for one tokenizer; remembers the ids of what stands between marks and cuts."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._kept: dict[tuple[int, str], list[int]] = {}

    def cut(self, text: str, cuts: Sequence[int], encoding: Encoding | None = None) -> CutText:
        """Encode.

        Args:
            text: the rendered text.
            cuts: ascending character positions; the first is 0, the last ``len(text)``.
            encoding: of the whole text, where the caller has it.
        """
        whole = self._tokenizer.encodings([text])[0] if encoding is None else encoding
        ids_T = np.asarray(whole.ids, dtype=np.int64)
        specials = self._tokenizer.special_positions(ids_T)
        positions = self._positions(text, cuts, whole, ids_T, specials)
        if positions is not None:
            return CutText(ids_T=ids_T, positions=positions, specials=specials, lookup=whole, length=len(text))
        ids, offsets, positions = tokens_between_cuts(self._tokenizer, text, cuts)
        ids_T = np.asarray(ids, dtype=np.int64)
        specials = self._tokenizer.special_positions(ids_T)
        return CutText(ids_T=ids_T, positions=positions, specials=specials, lookup=_Offsets(offsets), length=len(text))

    def _positions(self, text: str, cuts: Sequence[int], whole: Encoding, ids_T: np.ndarray, specials: list[int]) -> dict[int, int] | None:
        """Token positions of the cuts in the whole text's ids; None when a token straddles one.

        A special mark splits the text before anything else is done with it: the ids up to and with the last mark before a cut are
        those of the text up to that mark. What stands between the mark and the cut is encoded once more, after the same mark;
        when the ids go on with just these, they are the ids of the text up to the cut.
        """
        positions = {0: 0, len(text): len(ids_T)}
        borders = [whole.token_to_chars(t) or (0, 0) for t in specials]
        number = 0
        for cut in cuts[1:-1]:
            while number < len(borders) and borders[number][1] <= cut:
                number += 1
            begin, mark = (specials[number - 1], borders[number - 1]) if number else (-1, (0, 0))
            if number and mark[1] == cut:
                positions[cut] = begin + 1
                continue
            between = self._between(int(ids_T[begin]) if number else -1, text[mark[0] : mark[1]], text[mark[1] : cut])
            if between is None or ids_T[begin + 1 : begin + 1 + len(between)].tolist() != between:
                return None
            positions[cut] = begin + 1 + len(between)
        return positions

    def _between(self, mark_id: int, mark: str, text: str) -> list[int] | None:
        """Ids of a text after a mark (or at the beginning); None when the mark is not read as one there."""
        known = self._kept.get((mark_id, text))
        if known is not None:
            return known
        ids = self._tokenizer.encode(mark + text)
        if mark_id >= 0 and ids[:1] != [mark_id]:
            return None
        ids = ids[1:] if mark_id >= 0 else ids
        if len(text) <= _MAX_KEPT_CHARACTERS and len(self._kept) < _MAX_KEPT:
            self._kept[(mark_id, text)] = ids
        return ids


def tokens_between_cuts(tokenizer: Tokenizer, text: str, cuts: Sequence[int]) -> tuple[list[int], list[tuple[int, int]], dict[int, int]]:
    """The same step by step, for any text and any tokenizer: each cut is tried against the ids before it.

    Returns:
        ids, character ranges of each, and the token position of each cut.
    """
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    position = {cuts[0]: 0}
    anchor, anchor_position, previous = cuts[0], 0, cuts[0]
    for cut in cuts[1:]:
        new, ranges = tokenizer.encode_with_offsets(text[anchor:cut])
        if new[: len(ids) - anchor_position] != ids[anchor_position:]:
            anchor, anchor_position = previous, len(ids)
            new, ranges = tokenizer.encode_with_offsets(text[anchor:cut])
        known = len(ids) - anchor_position
        ids += new[known:]
        offsets += [(s + anchor, e + anchor) for s, e in ranges[known:]]
        position[cut] = len(ids)
        previous = cut
    return ids, offsets, position
