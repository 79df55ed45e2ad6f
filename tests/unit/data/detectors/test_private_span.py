"""Spans that overlap: the graver kind stays, and of one kind the longer."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from luthier.data.detectors.private_span import PrivateKind, Span, apart

KINDS = list(PrivateKind)
SPANS = st.lists(
    st.builds(
        lambda kind, start, length: Span(kind, start, start + length, "x"), st.sampled_from(KINDS), st.integers(0, 30), st.integers(1, 9)
    )
)


def _overlap(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end


@given(SPANS)
def test_what_is_kept_stands_apart_and_what_is_not_yields_to_something_graver_or_longer(spans: list[Span]) -> None:
    kept = apart(spans)
    assert kept == sorted(kept, key=lambda span: span.start)
    assert all(one.end <= other.start for one, other in pairwise(kept))
    for span in spans:
        rivals = [other for other in kept if _overlap(span, other)]
        assert rivals
        if span not in kept:
            ranks = [(KINDS.index(other.kind), other.start - other.end) for other in rivals]
            assert min(ranks) <= (KINDS.index(span.kind), span.start - span.end)


def test_a_secret_wins_over_what_is_in_it() -> None:
    secret, email = Span(PrivateKind.SECRET, 5, 9, "key"), Span(PrivateKind.EMAIL, 0, 30, "address")
    assert apart([email, secret]) == [secret]
