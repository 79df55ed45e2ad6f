"""Counts rows of one kind, and keeps the first lines and a few excerpts that are safe to show.

What it does not: decide what belongs to a kind. Called by every detector.
"""

import re

from luthier.core.doctor_report import MAX_EXAMPLES, MAX_LINES, DoctorFinding, Weight

_SHOWN = 24
"""Characters of an excerpt on either side of what was found."""
_PRIVATE = re.compile(r"\S*@\S*|\d[\d .-]{5,}|\S{25,}")
"""What an excerpt must not show: addresses, long numbers, and words so long that they may be keys."""


class Tally:
    """Rows of one kind."""

    __slots__ = ("count", "examples", "lines")

    def __init__(self) -> None:
        self.count = 0
        self.lines: list[int] = []
        self.examples: list[str] = []

    def add(self, line: int, example: str = "") -> None:
        """Count a row. Its example is kept where there is room, once."""
        self.count += 1
        if len(self.lines) < MAX_LINES:
            self.lines.append(line)
        if example and len(self.examples) < MAX_EXAMPLES and example not in self.examples:
            self.examples.append(example)

    def wants_example(self) -> bool:
        """Whether there is room for another example; making one costs time."""
        return len(self.examples) < MAX_EXAMPLES

    def finding(self, code: str, weight: Weight, *, finding: str, why: str, cure: str, measured_on: int | None = None) -> DoctorFinding:
        """The finding with these sentences."""
        return DoctorFinding(
            code=code,
            weight=weight,
            count=self.count,
            lines=tuple(self.lines),
            finding=finding,
            why=why,
            cure=cure,
            examples=tuple(self.examples),
            measured_on=measured_on,
        )


def rows(count: int) -> str:
    """``1 row``, or ``1,234 rows``."""
    return "1 row" if count == 1 else f"{count:,} rows"


def have(count: int, singular: str = "has", plural: str = "have") -> str:
    """``1 row has``, or ``1,234 rows have``."""
    return f"{rows(count)} {singular if count == 1 else plural}"


def masked(value: str) -> str:
    """The first four characters of a value and its length: ``ghp_... (40 characters)``. A short one shows no more than a quarter."""
    return f"{printable(value[: min(4, len(value) // 4)])}... ({len(value)} characters)"


def excerpt(text: str, start: int, end: int) -> str:
    """What stands from ``start`` to ``end`` with its neighbourhood, on one line, without what looks private."""
    before = text[max(0, start - _SHOWN) : start]
    after = text[end : end + _SHOWN]
    shown = _PRIVATE.sub("***", before) + text[start : min(end, start + 4 * _SHOWN)] + _PRIVATE.sub("***", after)
    lead, tail = "..." if start > _SHOWN else "", "..." if end + _SHOWN < len(text) else ""
    return f"{lead}{printable(shown.strip())}{tail}"


def beginning(text: str) -> str:
    """The beginning of a text, on one line, without what looks private."""
    head = text[: 3 * _SHOWN]
    return printable(_PRIVATE.sub("***", head).strip()) + ("..." if len(text) > len(head) else "")


def printable(text: str) -> str:
    """A text as one line that no terminal takes for commands."""
    return "".join(mark if mark.isprintable() else " " if mark in "\n\t\r" else "?" for mark in text)
