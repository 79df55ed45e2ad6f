"""Where in a text something private stands: the kinds, and spans that do not overlap.

What it does not: find any (``secret_patterns.py``, ``personal_data.py``). Called by those, ``private_values.py`` and ``data/redact.py``.
"""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple


class PrivateKind(StrEnum):
    """What can be found and redacted, the gravest first: where two overlap, the earlier one counts."""

    SECRET = "secrets"
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
    for span in sorted(spans, key=lambda span: (_RANK[span.kind], span.start - span.end, span.start)):
        if all(span.end <= other.start or span.start >= other.end for other in kept):
            kept.append(span)
    return sorted(kept, key=lambda span: span.start)
