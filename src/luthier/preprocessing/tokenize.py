"""One example becomes token ids with loss weights, cut at the longest length.

What it does: renders through the one renderer that serving uses too, cuts at the end. What it does not: choose the
length or judge the whole set (``stage.py``). Called by ``stage.py``.
"""

from dataclasses import replace
from typing import Protocol

from luthier.core.conversation import Conversation
from luthier.core.examples import RowFormat, SftExample
from luthier.core.tokens import Rendered, TokenizedExample, TokenSpan


class ExampleRenderer(Protocol):
    """What preprocessing needs of ``chat.renderer.Renderer``."""

    def example(self, conversation: Conversation, row_format: str = ..., /) -> Rendered:
        """A whole conversation with loss weights on what the assistant says; ``row_format`` as in ``core.examples.RowFormat``."""
        ...


def tokenize(example: SftExample, renderer: ExampleRenderer, row_format: RowFormat, *, max_length: int) -> TokenizedExample:
    """Render one example; tokens past ``max_length`` are cut off at the end and counted.

    Raises:
        InvalidRequest: the base's chat template refuses the messages.
    """
    rendered = renderer.example(example.conversation, row_format.value)
    surplus = rendered.ids_T.shape[0] - max_length
    if surplus <= 0:
        return TokenizedExample(source=example.source, rendered=rendered)
    return TokenizedExample(source=example.source, rendered=_cut(rendered, max_length), truncated=int(surplus))


def _cut(rendered: Rendered, length: int) -> Rendered:
    return Rendered(
        ids_T=rendered.ids_T[:length],
        weights_T=rendered.weights_T[:length],
        spans=tuple(_cut_span(span, length) for span in rendered.spans if span.start < length),
    )


def _cut_span(span: TokenSpan, length: int) -> TokenSpan:
    return span if span.end <= length else replace(span, end=length)
