"""One example becomes token ids with loss weights, cut at the longest length.

What it does: renders through the one renderer that serving uses too, cuts at the end; for every method: one conversation, two
answers to a prompt, a prompt alone. What it does not: choose the length or judge the whole set (``stage.py``). Called by
``stage.py`` and ``preview.py``.
"""

from dataclasses import replace
from typing import Protocol

from luthier.core.conversation import Conversation, Message
from luthier.core.examples import PreferenceExample, RlExample, RowFormat, SftExample, SourceLine
from luthier.core.tokens import Rendered, TokenizedExample, TokenSpan


class PromptRenderer(Protocol):
    """What a prompt alone needs of ``chat.renderer.Renderer``."""

    def prompt(self, conversation: Conversation, /) -> Rendered:
        """A conversation and the opening of the answer; no loss weights."""
        ...


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
    return _tokenized(example.source, renderer.example(example.conversation, row_format.value), max_length)


def tokenize_preference(
    example: PreferenceExample, renderer: ExampleRenderer, *, max_length: int
) -> tuple[TokenizedExample, TokenizedExample]:
    """Render the preferred and the non-preferred answer, each after the prompt; cut as in ``tokenize``.

    Loss weights stand on the answer alone: what the prompt's own assistant messages say is context, whatever their weight.

    Raises:
        InvalidRequest: the base's chat template refuses the messages.
    """
    read_only = tuple(replace(message, weight=0.0) for message in example.prompt.messages)

    def whole(answer: Message) -> TokenizedExample:
        messages = (*read_only, replace(answer, weight=1.0))
        rendered = renderer.example(replace(example.prompt, messages=messages), RowFormat.CHAT.value)
        return _tokenized(example.source, rendered, max_length)

    return whole(example.preferred), whole(example.non_preferred)


def tokenize_prompt(example: RlExample, renderer: PromptRenderer, *, max_length: int) -> TokenizedExample:
    """Render the prompt up to where the answer begins. No token has weight: the model's own answers are what is learned from.

    Raises:
        InvalidRequest: the base's chat template refuses the messages.
    """
    return _tokenized(example.source, renderer.prompt(example.prompt), max_length)


def _tokenized(source: SourceLine, rendered: Rendered, max_length: int) -> TokenizedExample:
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
