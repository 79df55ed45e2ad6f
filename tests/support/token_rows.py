"""Token examples for tests: random rows as a renderer could give them."""

import numpy as np
from hypothesis import strategies as st

from luthier.core.examples import SourceLine
from luthier.core.tokens import Rendered, TokenizedExample, TokenKind, TokenSpan

VOCABULARY = 200
_ROLES = ("", "system", "user", "assistant")


@st.composite
def token_rows(draw: st.DrawFn, *, vocabulary: int = VOCABULARY) -> TokenizedExample:
    """One row of 1 to about 30 tokens in spans of one weight, cut or not."""
    ids: list[int] = []
    weights: list[float] = []
    spans: list[TokenSpan] = []
    for number in range(draw(st.integers(1, 5))):
        size = draw(st.integers(1, 6))
        kind = draw(st.sampled_from(TokenKind))
        weight = draw(st.sampled_from((1.0, 0.25, 1.75))) if kind is TokenKind.TRAINED and ids else 0.0
        spans.append(TokenSpan(start=len(ids), end=len(ids) + size, kind=kind, message=number - 1, role=draw(st.sampled_from(_ROLES))))
        ids += draw(st.lists(st.integers(0, vocabulary - 1), min_size=size, max_size=size))
        weights += [weight] * size
    if draw(st.booleans()):
        spans = []
    rendered = Rendered(ids_T=np.array(ids, dtype=np.int64), weights_T=np.array(weights, dtype=np.float32), spans=tuple(spans))
    source = SourceLine("file-A", draw(st.integers(1, 1 << 40)))
    return TokenizedExample(source=source, rendered=rendered, truncated=draw(st.integers(0, 9)))


def plain_row(line: int, ids: list[int], *, trained: int = 1) -> TokenizedExample:
    """A row whose last tokens are trained."""
    weights = np.zeros(len(ids), dtype=np.float32)
    weights[len(ids) - trained :] = 1.0
    rendered = Rendered(ids_T=np.array(ids, dtype=np.int64), weights_T=weights)
    return TokenizedExample(source=SourceLine("file-A", line), rendered=rendered)


def as_values(example: TokenizedExample) -> tuple[object, ...]:
    """All that an example says, comparable with ``==``."""
    rendered = example.rendered
    kinds = (rendered.ids_T.dtype.name, rendered.weights_T.dtype.name)
    return example.source, example.truncated, kinds, rendered.ids_T.tolist(), rendered.weights_T.tolist(), rendered.spans
