"""What is made in bulk is what the renderer gives of each conversation, over the templates of many families and all kinds of texts."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.chat import bulk
from luthier.chat.renderer import Renderer
from luthier.chat.tokenizer import Tokenizer
from luthier.core.conversation import Conversation, Message, Role
from luthier.core.tokens import SPAN_KINDS, SPAN_ROLES, Rendered, RenderedRows, TokenSpan
from tests.properties.test_word_memo import tokenizers
from tests.support.talks import talks
from tests.support.template_families import FAMILIES, Family, renderer_of

some = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
_PIECES = ["the", "cat", "Don't", "1", "23", "!", "?!\n", "é", "e\u0301", "\u0301", "漢字", "🙂", "\x00", "<|", "'s", "user", "system", "assistant\n", "\n", "\u00a0"]
_PIECES += ["\t", "\r\n", "\u2028", "\u200b", "\x1c", "  ", " \n", "\n ", "</think>", "<think>", "[INST]", "|>", "<|im_end|>", "\\", "{{", "▁"]


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Shapes are sought for the first conversation that has them."""
    monkeypatch.setattr(bulk, "WORTH_A_SHAPE", 1)


def contents(extra: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    """Texts in which words, white space of all kinds and marks follow each other; many have single spaces only."""
    words = st.lists(st.sampled_from([*_PIECES, *extra]), min_size=1, max_size=3).map("".join)
    plain = st.lists(st.sampled_from([p for p in _PIECES if p.isalnum()]), min_size=1, max_size=6).map(" ".join)
    return st.one_of(plain, st.lists(words, min_size=1, max_size=6).map(" ".join), st.text(max_size=6))


@st.composite
def chats(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> Conversation:
    """A system text or none, questions and answers in any number, all contents of any kind."""
    messages = [Message(role=draw(st.sampled_from([Role.SYSTEM, Role.DEVELOPER])), content=draw(texts))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        weight = draw(st.sampled_from([1.0, 1.0, 0.0, 0.5]))
        messages.append(Message(role=Role.USER, content=draw(texts)))
        messages.append(Message(role=Role.ASSISTANT, content=draw(texts), weight=weight))
    return Conversation(messages=tuple(messages))


def unpacked(rows: RenderedRows) -> dict[int, tuple[Any, ...]]:
    """What is said of each conversation."""
    found, at, span_at = {}, 0, 0
    for i, end, span_end in zip(rows.chosen, rows.ends_R.tolist(), rows.span_ends_R.tolist(), strict=True):
        spans = tuple(
            TokenSpan(start=start, end=stop, kind=SPAN_KINDS[kind], message=message, role=SPAN_ROLES[role])
            for start, stop, message, kind, role in rows.spans_S[span_at:span_end].tolist()
        )
        found[i] = (rows.ids_N[at:end].tolist(), rows.weights_N[at:end].tolist(), spans)
        at, span_at = end, span_end
    assert (at, span_at) == (len(rows.ids_N), len(rows.spans_S)) == (len(rows.weights_N), span_at)
    return found


def same(renderer: Renderer, several: list[Conversation]) -> set[int]:
    """Compare; returns which of them were made in bulk."""
    rows = renderer.in_bulk(several)
    found = {} if rows is None else unpacked(rows)
    for i, (ids, weights, spans) in found.items():
        one = renderer.example(several[i])
        assert isinstance(one, Rendered)
        assert ids == one.ids_T.tolist()
        assert weights == one.weights_T.tolist()
        assert spans == one.spans
        assert one.rewritten == ()
    return set(found)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@some
@given(data=st.data())
def test_rows_are_the_renderers_examples(family: Family, data: st.DataObject) -> None:
    renderer = renderer_of(family.name)
    texts = contents(renderer.tokenizer.all_marks()[:3])
    same(renderer, data.draw(st.lists(st.one_of(chats(texts), talks(family)), min_size=1, max_size=5)))


PLAIN = Conversation(
    messages=(
        Message(role=Role.SYSTEM, content="Be brief."),
        Message(role=Role.USER, content="What did\n  the cat say?"),
        Message(role=Role.ASSISTANT, content="Hello there, user."),
    )
)


def test_which(capsys):
    with capsys.disabled():
        for f in FAMILIES:
            r=renderer_of(f.name)
            b=r._bulk
            for talk in (PLAIN, replace(PLAIN,messages=PLAIN.messages[1:]), replace(PLAIN,messages=PLAIN.messages+PLAIN.messages[1:])):
                print(f.name, same(r,[talk]), b is not None)
