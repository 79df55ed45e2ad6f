"""Tokens to text while they come: complete characters only, and nothing that may still become a stop string.

What it does not: decide which tokens end an answer (the engine does, by ``Renderer.stop_ids``). Called by the engine, one
object per answer.
"""

import codecs
from collections.abc import Sequence

from luthier.chat.tokenizer import Tokenizer
from luthier.core.generation import CalledTool


class StreamDecoder:
    """The text of one answer, piece by piece. The pieces joined equal the whole text before the first stop string."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: Sequence[str] = (),
        *,
        skip_special: bool = True,
        shown: frozenset[int] = frozenset(),
        opening: str = "",
        closing: str = "",
    ) -> None:
        """Start an answer.

        Args:
            tokenizer: of the model that answers.
            stop: strings that end the answer; empty ones are ignored.
            skip_special: leave special marks out of the text.
            shown: ids of special marks that stay in it.
            opening: what the model's template writes before an answer's content; it is no part of the content.
            closing: the same after it.
        """
        self.stopped = False
        """True once a stop string was met; the text ends before it and later tokens are ignored."""
        self._tokenizer = tokenizer
        self._stop = tuple(s for s in stop if s)
        self._skipped = tokenizer.special_ids - shown if skip_special else frozenset()
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._at_start = True
        # The space that begins a text of such a tokenizer is gone already.
        self._opening = opening.removeprefix(" ") if tokenizer.drops_first_space else opening
        self._closing = closing

    @property
    def tool_calls(self) -> tuple[CalledTool, ...]:
        """None are looked for here (``tool_calls.py`` does)."""
        return ()

    def push(self, token_id: int) -> str:
        """Take one token; returns the text that has become certain, often empty."""
        if self.stopped or token_id in self._skipped:
            return ""
        piece = self._tokenizer.token_bytes(token_id)
        if self._at_start and self._tokenizer.drops_first_space:
            piece = piece.removeprefix(b" ")
        self._at_start = False
        return self._take(self._utf8.decode(piece))

    def finish(self) -> str:
        """The rest of the text after the last token; an incomplete character becomes U+FFFD."""
        if self.stopped:
            return ""
        text = self._take(self._utf8.decode(b"", final=True))
        rest, self._held = self._held, ""
        return text + (rest.removesuffix(self._closing) if self._closing else rest)

    def _take(self, text: str) -> str:
        self._held += text
        if self._opening:
            if len(self._held) < len(self._opening) and self._opening.startswith(self._held):
                return ""
            self._held, self._opening = self._held.removeprefix(self._opening), ""
        cut = min((at for s in self._stop if (at := self._held.find(s)) >= 0), default=None)
        if cut is not None:
            certain, self._held, self.stopped = self._held[:cut], "", True
            return certain
        keep = max((overlap(self._held, s) for s in self._stop), default=0)
        if self._closing:
            whole = len(self._closing) if self._held.endswith(self._closing) else overlap(self._held, self._closing)
            keep = max(keep, whole)
        certain, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return certain


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that begins ``stop``."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
