"""Examples become token ids with loss weights, cut at the longest length.

What it does: renders through the one renderer that serving uses too, cuts at the end. What it does not: choose the
length or judge the whole set (``stage.py``). Called by ``stage.py`` and ``parallel.py``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from luthier.core.conversation import Conversation
from luthier.core.errors import InvalidRequest
from luthier.core.examples import RowFormat, SftExample, SourceLine
from luthier.core.tokens import Rendered, TokenizedExample, TokenSpan

CHUNK_ROWS = 512
"""Examples that exist as objects at once."""


class ExampleRenderer(Protocol):
    """What preprocessing needs of ``chat.renderer.Renderer``."""

    def examples(self, conversations: Sequence[Conversation], row_format: str = ..., /) -> list[Rendered | InvalidRequest]:
        """Whole conversations with loss weights on what the assistant says; ``row_format`` as in ``core.examples.RowFormat``.

        The refusal of the base's chat template stands in the place of a conversation that it does not take.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A row that the base's chat template does not take, and its reason."""

    source: SourceLine
    reason: str


Tokenized = TokenizedExample | Refused


def tokenize(examples: Sequence[SftExample], renderer: ExampleRenderer, row_format: RowFormat, *, max_length: int) -> list[Tokenized]:
    """Render examples; tokens past ``max_length`` are cut off at the end and counted."""
    read = list(examples)
    rendered = renderer.examples([example.conversation for example in read], row_format.value)
    return [_tokenized(example.source, answer, max_length) for example, answer in zip(read, rendered, strict=True)]


def tokenize_all(
    examples: Sequence[SftExample], renderer: ExampleRenderer, row_format: RowFormat, *, max_length: int
) -> Iterator[list[Tokenized]]:
    """The same for any number of them, a chunk at a time."""
    for start in range(0, len(examples), CHUNK_ROWS):
        yield tokenize(examples[start : start + CHUNK_ROWS], renderer, row_format, max_length=max_length)


def _tokenized(source: SourceLine, rendered: Rendered | InvalidRequest, max_length: int) -> Tokenized:
    if isinstance(rendered, InvalidRequest):
        return Refused(source=source, reason=rendered.message)
    surplus = rendered.ids_T.shape[0] - max_length
    if surplus <= 0:
        return TokenizedExample(source=source, rendered=rendered)
    return TokenizedExample(source=source, rendered=_cut(rendered, max_length), truncated=int(surplus))


def _cut(rendered: Rendered, length: int) -> Rendered:
    return Rendered(
        ids_T=rendered.ids_T[:length],
        weights_T=rendered.weights_T[:length],
        spans=tuple(_cut_span(span, length) for span in rendered.spans if span.start < length),
    )


def _cut_span(span: TokenSpan, length: int) -> TokenSpan:
    return span if span.end <= length else replace(span, end=length)
