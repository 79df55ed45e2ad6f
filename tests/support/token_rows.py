"""Token examples for tests: random rows as a renderer could give them."""

import numpy as np
from hypothesis import strategies as st

from luthier.core.examples import SourceLine
from luthier.core.tokens import Rendered, TokenizedExample, TokenKind, TokenSpan
from luthier.preprocessing.stage import Prepared

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


def uneven_rows(count: int = 18) -> Prepared:
    """Rows of very different lengths, some tokens of them untrained or of half a weight; without spans."""
    draw = np.random.default_rng(4)
    made = []
    for line in range(1, count + 1):
        length = int(draw.integers(4, 60))
        weights = draw.choice([0.0, 0.5, 1.0], size=length).astype(np.float32)
        weights[0], weights[-1] = 0.0, 1.0
        ids = draw.integers(6, 8192, size=length)
        made.append(TokenizedExample(source=SourceLine("file-A", line), rendered=Rendered(ids_T=ids, weights_T=weights)))
    return _prepared(made)


def spoken_rows(count: int = 18) -> Prepared:
    """Rows of very different lengths in which a user and an assistant speak twice each: of its answers the last one is trained."""
    draw = np.random.default_rng(5)
    parts = (
        (TokenKind.SPECIAL, -1, ""),
        (TokenKind.CONTEXT, 0, "user"),
        (TokenKind.SPECIAL, -1, ""),
        (TokenKind.CONTEXT, 1, "assistant"),
        (TokenKind.CONTEXT, 2, "user"),
        (TokenKind.TRAINED, 3, "assistant"),
    )
    made = []
    for line in range(1, count + 1):
        spans, at, weights = [], 0, np.zeros(0, dtype=np.float32)
        # Every third row begins with the user's own first token, which nothing predicts.
        for kind, message, role in parts[line % 3 == 0 :]:
            size = int(draw.integers(1, 3 if kind is TokenKind.SPECIAL else 14))
            spans.append(TokenSpan(start=at, end=at + size, kind=kind, message=message, role=role))
            own = draw.choice([0.5, 1.0], size=size) if kind is TokenKind.TRAINED else np.zeros(size)
            at, weights = at + size, np.concatenate([weights, own.astype(np.float32)])
        rendered = Rendered(ids_T=draw.integers(6, 8192, size=at), weights_T=weights, spans=tuple(spans))
        made.append(TokenizedExample(source=SourceLine("file-A", line), rendered=rendered))
    return _prepared(made)


def _prepared(made: list[TokenizedExample]) -> Prepared:
    tokens, trained = sum(e.num_tokens for e in made), sum(e.rendered.num_trained for e in made)
    return Prepared(examples=made, num_tokens=tokens, num_trained=trained, num_truncated=0)


def as_values(example: TokenizedExample) -> tuple[object, ...]:
    """All that an example says, comparable with ``==``."""
    rendered = example.rendered
    kinds = (rendered.ids_T.dtype.name, rendered.weights_T.dtype.name)
    return example.source, example.truncated, kinds, rendered.ids_T.tolist(), rendered.weights_T.tolist(), rendered.spans
