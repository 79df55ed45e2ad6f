"""Special marks that stand in a message's text stay text: nobody ends a turn or opens another by writing its mark.

What it does: takes such marks out of messages and tools before the template sees them, puts them back into the rendered text,
and gives a tokenizer that reads only the template's own marks as marks. What it does not: touch bare prompts, which have no
turns. Called by ``renderer.py``; a text without marks costs one search.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from luthier.chat.ranges import Located, MessageRange
from luthier.chat.tokenizer import Tokenizer
from luthier.core.errors import InvalidRequest


class Guard:
    """For one tokenizer. Thread-safe: it is never changed after it was built, but for the second tokenizer, made at need."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # Longest first, as the tokenizer matches. Digits only, and printable brackets: filters that change case and ``string`` leave
        # the stand-ins alone. A number that nobody can guess: no text can hold one.
        self._marks = sorted((m for m in tokenizer.added_texts() if m), key=len, reverse=True)
        self._number = str(secrets.randbelow(10**24))
        self._stand_in = re.compile(f"\u27e6{self._number}:(\\d+)\u27e7")
        self._pattern = re.compile("|".join(map(re.escape, self._marks))) if self._marks else None
        self._index = {mark: i for i, mark in enumerate(self._marks)}
        self._names = {mark: f"\u27e6{self._number}/{i}\u27e7" for mark, i in self._index.items()}
        self._renamed: Tokenizer | None = None

    def finds(self, value: Any) -> bool:
        """Whether a special mark stands in any text of a plain value."""
        if self._pattern is None:
            return False
        if isinstance(value, str):
            return self._pattern.search(value) is not None
        if isinstance(value, Mapping):
            return any(self.finds(k) or self.finds(v) for k, v in value.items())
        return isinstance(value, Sequence) and any(self.finds(v) for v in value)

    def hide(self, value: Any) -> Any:
        """The same value with a stand-in for each mark."""
        if isinstance(value, str):
            return value if self._pattern is None else self._pattern.sub(lambda m: f"\u27e6{self._number}:{self._index[m[0]]}\u27e7", value)
        if isinstance(value, Mapping):
            return {self.hide(k): self.hide(v) for k, v in value.items()}
        return [self.hide(v) for v in value] if isinstance(value, list | tuple) else value

    def reveal(self, located: Located) -> tuple[Located, Tokenizer]:
        """The text with hidden marks as text again and the template's own marks renamed, and the tokenizer that knows these names.

        Raises:
            InvalidRequest: the template cut a mark apart.
        """
        assert self._pattern is not None
        both = re.compile(f"{self._stand_in.pattern}|{self._pattern.pattern}")
        pieces: list[str] = []
        moves: list[tuple[int, int]] = [(0, 0)]
        at = length = 0
        for match in both.finditer(located.text):
            written = self._marks[int(match[1])] if match[1] is not None else self._names[match[0]]
            pieces += [located.text[at : match.start()], written]
            length += match.start() - at + len(written)
            at = match.end()
            moves.append((at, length))
        pieces.append(located.text[at:])
        text = "".join(pieces)
        if f"{self._number}:" in text:
            message = "A message holds one of the model's special marks, and the model's chat template cuts it apart. Take the mark out."
            raise InvalidRequest(message, param="messages")
        if self._renamed is None:
            self._renamed = self._tokenizer.with_marks_renamed(self._names)
        ranges = tuple(MessageRange(r.message, _moved(r.start, moves), _moved(r.end, moves)) for r in located.ranges)
        answers = {r.message for r in located.answers}
        return replace(located, text=text, ranges=ranges, answers=tuple(r for r in ranges if r.message in answers)), self._renamed


def _moved(position: int, moves: list[tuple[int, int]]) -> int:
    """Borders of messages never stand inside a mark, so the last move before one tells its new place."""
    before, after = max(move for move in moves if move[0] <= position)
    return after + position - before
