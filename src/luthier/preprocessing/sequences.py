"""The token sequences that training reads of one row, whatever its method, before they are cut.

What it does: renders through the one renderer that serving uses too. A supervised row is one sequence, or several where the chat
template rewrites earlier turns; a preference row two, a row for reinforcement its prompt. What it does not: cut, batch, judge.
Called by ``preview.py`` and ``worker/row_losses.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from luthier.core.conversation import Conversation
from luthier.core.examples import Example, PreferenceExample, RlExample, RowFormat, SftExample, conversations_of
from luthier.core.tokens import Rendered


class RowRenderer(Protocol):
    """What rows need of ``chat.renderer.Renderer``."""

    def example(self, conversation: Conversation, row_format: str = ..., /) -> Rendered:
        """A whole conversation with loss weights on what the assistant says."""
        ...

    def split(self, conversation: Conversation, row_format: str = ..., /) -> Sequence[Conversation]:
        """Conversations whose examples together train every answer that has weight."""
        ...

    def prompt(self, conversation: Conversation, /) -> Rendered:
        """A conversation and the opening of the answer; no loss weights."""
        ...


@dataclass(frozen=True, slots=True)
class NamedSequence:
    """One sequence of a row."""

    name: str
    """``example``, ``preferred``, ``non_preferred`` or ``prompt``."""
    rendered: Rendered
    """Not cut."""


def sequences_of(example: Example, renderer: RowRenderer, row_format: RowFormat) -> list[NamedSequence]:
    """The row's sequences; of a preference row the preferred answer first.

    Raises:
        InvalidRequest: the base's chat template refuses the messages.
    """
    if isinstance(example, PreferenceExample):
        names = ("preferred", "non_preferred")
        answered = zip(names, conversations_of(example), strict=True)
        return [NamedSequence(name, renderer.example(conversation, RowFormat.CHAT.value)) for name, conversation in answered]
    if isinstance(example, RlExample):
        return [NamedSequence("prompt", renderer.prompt(example.prompt))]
    return [NamedSequence("example", rendered) for rendered in _supervised(example, renderer, row_format)]


def _supervised(example: SftExample, renderer: RowRenderer, row_format: RowFormat) -> list[Rendered]:
    rendered = renderer.example(example.conversation, row_format.value)
    if not rendered.rewritten:
        return [rendered]
    return [renderer.example(part, row_format.value) for part in renderer.split(example.conversation, row_format.value)]
