"""Where in a text something private stands: the kinds, and spans that do not overlap.

What it does not: find any (``secret_patterns.py``, ``personal_data.py``). Called by those, ``private_values.py`` and ``data/redact.py``.
"""

from bisect import bisect
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple


class PrivateKind(StrEnum):
    """What can be found and redacted, the gravest first: where two overlap, the earlier one counts."""

    SECRET = "secrets"  # noqa: S105 - a kind of thing, not one
    IBAN = "ibans"
    CARD = "cards"
    NATIONAL_ID = "ids"
    EMAIL = "emails"
    IP = "ips"
    PHONE = "phones"


_RANK = {kind: number for number, kind in enumerate(PrivateKind)}


class Span(NamedTuple):
    """A private value in a text."""

    kind: PrivateKind
    start: int
    end: int
    name: str
    """What it is, for people: ``GitHub token``."""


Finder = Callable[[str], Iterable[Span]]
"""Finds the private values of one or more kinds in a text."""


def apart(spans: Iterable[Span]) -> list[Span]:
    """The spans in their order without overlaps: the graver kind is kept, of one kind the longer."""
    kept: list[Span] = []
    starts: list[int] = []
    for span in sorted(spans, key=lambda span: (_RANK[span.kind], span.start - span.end, span.start)):
        place = bisect(starts, span.start)
        before, after = kept[place - 1 : place], kept[place : place + 1]
        if all(other.end <= span.start for other in before) and all(span.end <= other.start for other in after):
            kept.insert(place, span)
            starts.insert(place, span.start)
    return kept
