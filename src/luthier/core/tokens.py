"""Tokens of an example: ids, loss weights and which message each token came from. Made by ``chat``, used by all stages.

Axis letters: T tokens of one row, B rows of a batch; R rows of a file, N tokens and S spans of all these rows.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from luthier.core.conversation import Role
from luthier.core.examples import SourceLine


class TokenKind(StrEnum):
    """What training does with a token."""

    TRAINED = "trained"
    """Its prediction counts in the loss."""
    CONTEXT = "context"
    """Read, not learned."""
    SPECIAL = "special"
    """A mark of the template that is not learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSpan:
    """A run of tokens of one kind from one message; ``end`` is exclusive."""

    start: int
    end: int
    kind: TokenKind
    message: int
    """Index of the message, -1 for marks outside messages."""
    role: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rendered:
    """A conversation as tokens."""

    ids_T: np.ndarray
    """int64 token ids."""
    weights_T: np.ndarray
    """float32; weight of predicting the token at the same position from those before it; position 0 is always 0."""
    spans: tuple[TokenSpan, ...] = ()
    rewritten: tuple[int, ...] = ()
    """Messages that have weight and are only context here, because the chat template rewrites them when the talk goes on."""

    @property
    def num_trained(self) -> int:
        """How many tokens count in the loss."""
        return int(np.count_nonzero(self.weights_T))


SPAN = np.dtype([("start", "<u4"), ("end", "<u4"), ("message", "<i4"), ("kind", "u1"), ("role", "u1")])
"""A ``TokenSpan`` as a record; kind and role are places in ``SPAN_KINDS`` and ``SPAN_ROLES``."""
SPAN_KINDS = tuple(TokenKind)
SPAN_ROLES = ("", *(role.value for role in Role))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RenderedRows:
    """Several conversations as tokens: what ``Rendered`` says of one, without an object for each."""

    chosen: tuple[int, ...]
    """Which of the conversations that were given these are, ascending."""
    ids_N: np.ndarray
    """int32 token ids, row after row."""
    weights_N: np.ndarray
    """float32, as in ``Rendered``."""
    ends_R: np.ndarray
    """int64 tokens up to and with each row; no row is empty."""
    spans_S: np.ndarray
    """``SPAN``, counted from each row's own first token."""
    span_ends_R: np.ndarray
    """int64 spans up to and with each row."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenizedExample:
    """A rendered example with its source line."""

    source: SourceLine
    rendered: Rendered
    truncated: int = 0
    """Tokens cut off at the end."""

    @property
    def num_tokens(self) -> int:
        """Length in tokens after truncation."""
        return int(self.rendered.ids_T.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenBatch:
    """Rows padded on the right to one length."""

    ids_BT: np.ndarray
    """int64 token ids; padding is 0."""
    lengths_B: np.ndarray
    """int64 true length of each row."""
    weights_BT: np.ndarray
    """float32 loss weights; padding is 0."""
    sources: tuple[SourceLine, ...]
