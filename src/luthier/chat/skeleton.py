"""What a template writes around the messages of a talk, found once for all talks with the same roles.

What it does: has the template write messages with opaque texts (``opaque.py``), and keeps what stands between them. Where that comes
through, every talk of these roles is the same texts with its own contents between them. What it does not: encode (``word_ids.py``), or
deal with tools, names and calls, and with templates that look into messages: those are rendered. Called by ``bulk.py``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luthier.chat.habits import Habits
from luthier.chat.opaque import Looked, Watch
from luthier.chat.template import Template
from luthier.core.conversation import Message, Role
from luthier.core.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Skeleton:
    """The text of a talk without its contents."""

    literals: tuple[str, ...]
    """What stands before each content, and after the last one."""
    forbidden: tuple[str, ...]
    """Texts that no content may hold: the template was told that there are none."""
    sample: tuple[str, ...]
    """Contents that it was found with."""


class Skeletons:
    """Finds skeletons for one template and tokenizer."""

    def __init__(self, source: str, named_marks: dict[str, str], habits: Habits, marks: Sequence[str]) -> None:
        """Compile once more, to be watched.

        Args:
            source: Jinja text of the template.
            named_marks: as in ``Template``.
            habits: of the template.
            marks: texts of all marks that the tokenizer takes out of a text before anything else.

        Raises:
            Looked: this template cannot be watched.
        """
        self._template = Template(source, named_marks, watching=True)
        self._habits = habits
        self._marks = tuple(marks)
        # Longest first: at one place the tokenizer takes the longest mark, and then goes on after it.
        self._pattern = re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True)))) if marks else re.compile("(?!)")

    def find(self, roles: Sequence[Role]) -> Skeleton | None:
        """The skeleton of talks with these roles; None where there is none.

        For none of these talks does the template look into a content, be it for the talk, for a part from its beginning, or for the
        generation prompt after one.
        """
        watch = Watch()
        talk = [self._habits.plain(Message(role=role, content=watch.text(i))) for i, role in enumerate(roles)]
        try:
            text = self._template.render(talk)
            for end, role in enumerate(roles):
                self._takes(talk[:end], opened=False)
                if not self._takes(talk[:end], opened=True) and role is Role.ASSISTANT:
                    return None
        except (Looked, InvalidRequest):
            return None
        sample = tuple(watch.plain(i) for i in range(len(roles)))
        literals = _between(text, sample, watch.number)
        if watch.looked or literals is None or not self._stand_apart(literals):
            return None
        return Skeleton(literals=tuple(literals), forbidden=tuple(sorted(watch.forbidden)), sample=sample)

    def opening_of(self, literal: str) -> str:
        """What follows the last mark of a literal: the tokenizer reads it together with the content."""
        end = 0
        for found in self._pattern.finditer(literal):
            end = found.end()
        return literal[end:]

    def _takes(self, talk: Sequence[dict[str, Any]], *, opened: bool) -> bool:
        try:
            self._template.render(talk, add_generation_prompt=opened)
        except InvalidRequest:  # refused for its roles: had the template looked, ``Watch`` would know
            return False
        return True

    def _stand_apart(self, literals: Sequence[str]) -> bool:
        """Whether every content ends at a mark, and none can make a mark together with what stands around it."""
        if not all(self._pattern.match(literal) for literal in literals[1:]):
            return False
        for mark in self._marks:
            for at in range(1, len(mark)):
                begun, rest = mark[:at], mark[at:]
                if any(literal.startswith(rest) or rest.startswith(literal) for literal in literals[1:]):
                    return False
                if any(literal and (literal.endswith(begun) or begun.endswith(literal)) for literal in literals[:-1]):
                    return False
        return True


def _between(text: str, contents: Sequence[str], number: str) -> list[str] | None:
    """What stands between the contents; None when they are not there once each, in order and unchanged."""
    if text.count(number) != len(contents):
        return None
    pieces: list[str] = []
    at = 0
    for content in contents:
        start = text.find(content, at)
        if start < 0:
            return None
        pieces.append(text[at:start])
        at = start + len(content)
    return [*pieces, text[at:]]
