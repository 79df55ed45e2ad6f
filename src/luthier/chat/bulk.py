"""Many conversations to tokens at once: what ``Renderer.example`` gives of each, found without rendering or encoding it.

What it does: knows, for each sequence of roles and weights that comes often, what the template writes around the contents
(``skeleton.py``) and where its spans begin; puts the ids of known words between (``word_ids.py``). What it does not: anything else. Talks
with tools, calls or names, contents that are empty, begin or end with white space or hold a mark, and whatever else is not certain is
left to the renderer. Called by ``renderer.py``.

A *shape* is taken from an example that the renderer made of a talk whose contents are unknown to the template, and only where the words
give that very example.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from luthier.chat.skeleton import Skeletons
from luthier.chat.word_ids import SPACED, UNFIT, Head, WordIds
from luthier.core.conversation import Conversation, Message, Role
from luthier.core.errors import InvalidRequest
from luthier.core.tokens import SPAN, SPAN_KINDS, SPAN_ROLES, Rendered, RenderedRows

WORTH_A_SHAPE = 4
"""Conversations with the same roles and weights before a shape is sought: that takes as long as rendering a few of them."""
_MOST_SHAPES = 256
_MOST_COUNTED = 4096
_AT_WORD = -1
# Columns of borders.
_AT, _PLUS, _MESSAGE, _KIND, _ROLE = range(5)

_Key = tuple[tuple[Role, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Shape:
    """Talks of the same roles and weights. M messages."""

    heads: tuple[Head, ...]
    """M + 1: the last one is that of what stands after the last content."""
    before: tuple[str, ...]
    """M literals; empty for answers, which are not sought in the text."""
    forbidden: tuple[str, ...]
    borders: np.ndarray
    """int64, a row for each span: the head that it begins in, how many of its ids stand before (``_AT_WORD``: those before its word),
    and the span's message, kind and role, as in ``SPAN``."""
    weights: np.ndarray
    """float32, of each span."""

    def takes(self, messages: Sequence[Message]) -> bool:
        """Whether these contents are such as were presumed, and whether the renderer finds each where it stands."""
        for message, before in zip(messages, self.before, strict=True):
            content = message.content
            if (
                not content
                or content.strip() != content
                or message.name is not None
                or message.tool_calls
                or message.tool_call_id is not None
            ):
                return False
            if before and (before + content).find(content) < len(before):
                return False
            for text in self.forbidden:
                if text in content:
                    return False
        return True


class Bulk:
    """For one template and tokenizer."""

    def __init__(self, skeletons: Skeletons, words: WordIds, example: Callable[[Conversation], Rendered]) -> None:
        """``example``: the renderer's own."""
        self._skeletons = skeletons
        self._words = words
        self._example = example
        self._shapes: dict[_Key, _Shape | None] = {}
        self._seen: Counter[_Key] = Counter()

    def rows(self, conversations: Sequence[Conversation]) -> RenderedRows | None:
        """The examples of some of the conversations, if any."""
        self._words.make_room()
        chosen: list[tuple[int, _Shape]] = []
        for i, conversation in enumerate(conversations):
            shape = self._shape(conversation) if not conversation.tools else None
            if shape is not None and shape.takes(conversation.messages):
                chosen.append((i, shape))
        if not chosen:
            return None
        words: list[str] = []
        places: list[int] = []  # of heads, which are numbered apart
        firsts: list[str] = []
        for i, _ in chosen:
            for message in conversations[i].messages:
                cut = message.content.split(" ")
                places.append(len(words))
                firsts.append(cut[0])
                cut[0] = ""
                words += cut
            places.append(len(words))
            firsts.append("")
            words.append("")
        numbers_W = np.fromiter(map(self._words.__getitem__, words), dtype=np.int32, count=len(words))
        heads = [head for _, shape in chosen for head in shape.heads]
        places_H, kept_W = np.array(places), np.ones(len(words), dtype=bool)
        numbers_W[places_H] = [head[first] for head, first in zip(heads, firsts, strict=True)]
        for place, first in zip(places, firsts, strict=True):
            words[place] = first
        runs = self._uncertain(numbers_W, words)
        for (first, end), at in zip(runs, np.searchsorted(places_H, [first for first, _ in runs]).tolist(), strict=True):
            numbering = heads[at] if places[at] == first else self._words
            numbers_W[first] = numbering[" ".join(words[first:end])]
            kept_W[first + 1 : end] = False
        return self._of_fit_rows(chosen, numbers_W[kept_W], (np.cumsum(kept_W) - 1)[places_H])

    def _uncertain(self, numbers_W: np.ndarray, words: Sequence[str]) -> list[tuple[int, int]]:
        """Runs of words with no certain border between them: there is white space beside the spaces that set them apart."""
        runs: list[tuple[int, int]] = []
        for at in np.flatnonzero(self._words.flags_of(numbers_W) & SPACED).tolist():
            # Contents have no white space at their ends: what is before or after such a word is of the same content.
            word = words[at]
            begin = at - 1 if not word or word[0].isspace() else at
            end = at + 2 if not word or word[-1].isspace() else at + 1
            if runs and begin < runs[-1][1]:
                runs[-1] = (runs[-1][0], end)
            else:
                runs.append((begin, end))
        return runs

    def _of_fit_rows(self, chosen: list[tuple[int, _Shape]], numbers_W: np.ndarray, places_H: np.ndarray) -> RenderedRows | None:
        """Leave rows out in which a word is ``UNFIT``."""
        unfit_W = self._words.flags_of(numbers_W) & UNFIT > 0
        if unfit_W.any():
            heads_R = np.cumsum([len(shape.heads) for _, shape in chosen])
            rows_W = np.searchsorted(places_H[heads_R - 1], np.arange(len(numbers_W)))
            fit_R = np.bincount(rows_W, unfit_W) == 0
            fit_W = fit_R[rows_W]
            chosen = [one for one, fit in zip(chosen, fit_R.tolist(), strict=True) if fit]
            places_H = (np.cumsum(fit_W) - 1)[places_H[fit_W[places_H]]]
            numbers_W = numbers_W[fit_W]
        return self._assembled(chosen, numbers_W, places_H) if chosen else None

    def _assembled(self, chosen: Sequence[tuple[int, _Shape]], numbers_W: np.ndarray, places_H: np.ndarray) -> RenderedRows:
        """Ids, weights and spans of rows. H heads of all rows."""
        row = self._words.row(numbers_W)
        heads_R = np.cumsum([len(shape.heads) for _, shape in chosen])  # past each row's last head
        first_heads_R = np.concatenate([[0], heads_R[:-1]])
        starts_H = row.starts_W[places_H]
        begins_R = starts_H[first_heads_R]
        borders_S = np.concatenate([shape.borders for _, shape in chosen])
        counts_R = np.array([len(shape.borders) for _, shape in chosen])
        heads_S = np.repeat(first_heads_R, counts_R) + borders_S[:, _AT]
        plus_S = borders_S[:, _PLUS]
        starts_S = starts_H[heads_S] + np.where(plus_S == _AT_WORD, row.firsts_W[places_H][heads_S], plus_S)
        ends_S = np.append(starts_S[1:], len(row.ids_N))
        spans_S = np.empty(len(borders_S), dtype=SPAN)
        spans_S["message"], spans_S["kind"], spans_S["role"] = borders_S[:, _MESSAGE], borders_S[:, _KIND], borders_S[:, _ROLE]
        origins_S = np.repeat(begins_R, counts_R)
        spans_S["start"], spans_S["end"] = starts_S - origins_S, ends_S - origins_S
        weights_S = np.concatenate([shape.weights for _, shape in chosen])
        return RenderedRows(
            chosen=tuple(i for i, _ in chosen),
            ids_N=row.ids_N,
            weights_N=np.repeat(weights_S, ends_S - starts_S),
            ends_R=np.append(begins_R[1:], len(row.ids_N)),
            spans_S=spans_S,
            span_ends_R=np.cumsum(counts_R),
        )

    def _shape(self, conversation: Conversation) -> _Shape | None:
        key = tuple([(message.role, message.weight) for message in conversation.messages])
        if key in self._shapes:
            return self._shapes[key]
        if len(self._shapes) == _MOST_SHAPES:
            return None
        if len(self._seen) > _MOST_COUNTED:
            self._seen.clear()
        self._seen[key] += 1
        if self._seen[key] < WORTH_A_SHAPE:
            return None
        shape = self._shapes[key] = self._found(key)
        return shape

    def _found(self, key: _Key) -> _Shape | None:
        roles = [role for role, _ in key]
        skeleton = self._skeletons.find(roles)
        if skeleton is None:
            return None
        messages = tuple(Message(role=role, content=text, weight=weight) for (role, weight), text in zip(key, skeleton.sample, strict=True))
        try:
            sample = self._example(Conversation(messages=messages))
        except InvalidRequest:
            return None
        # Every token stands in a span, and every message has one.
        if sample.rewritten or not {span.message for span in sample.spans} >= set(range(len(key))):
            return None
        heads = [
            self._words.head(literal, self._skeletons.opening_of(literal), is_cut=role is Role.ASSISTANT)
            for literal, role in zip(skeleton.literals, roles, strict=False)
        ]
        heads.append(self._words.head(skeleton.literals[-1], "", is_cut=False))
        borders = self._borders(roles, heads, skeleton.sample, sample)
        if borders is None:
            return None
        before = ["" if role is Role.ASSISTANT else literal for literal, role in zip(skeleton.literals, roles, strict=False)]
        weights = sample.weights_T[[span.start for span in sample.spans]]
        return _Shape(heads=tuple(heads), before=tuple(before), forbidden=skeleton.forbidden, borders=borders, weights=weights)

    def _borders(self, roles: Sequence[Role], heads: Sequence[Head], words: Sequence[str], sample: Rendered) -> np.ndarray | None:
        """Where the spans of an example begin, told by its heads; None where they give other ids, or where a span's place is not certain.

        A border inside a literal is certain up to its last mark; an answer's beginning is, because a head that has no border there
        is ``UNFIT``; the beginning of another message is where its head says.
        """
        numbers_H = np.array([head[word] for head, word in zip(heads, [*words, ""], strict=True)])
        row = self._words.row(numbers_H)
        if self._words.flags_of(numbers_H).any() or not np.array_equal(row.ids_N, sample.ids_T):
            return None
        starts, firsts = row.starts_W.tolist(), row.firsts_W.tolist()
        borders: list[tuple[int, ...]] = []
        for span in sample.spans:
            at = bisect_right(starts, span.start) - 1
            plus, head = span.start - starts[at], heads[at]
            is_answer = at < len(roles) and roles[at] is Role.ASSISTANT
            is_first = at < len(roles) and not is_answer and plus == firsts[at]
            if not (is_first or plus <= head.num_marked or (is_answer and plus == head.num_ids)):
                return None
            kind, role = SPAN_KINDS.index(span.kind), SPAN_ROLES.index(span.role)
            borders.append((at, _AT_WORD if is_first else plus, span.message, kind, role))
        return np.array(borders, dtype=np.int64)
