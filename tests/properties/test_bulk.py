"""What is made in bulk is what the renderer gives of each conversation, over the templates of many families and all kinds of texts."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.chat import bulk, word_ids
from luthier.chat.renderer import Renderer
from luthier.chat.tokenizer import Tokenizer
from luthier.core.conversation import Conversation, Message, Role
from luthier.core.tokens import SPAN_KINDS, SPAN_ROLES, Rendered, RenderedRows, TokenSpan
from tests.properties.test_word_memo import tokenizers
from tests.support.mini import MINI
from tests.support.talks import talks
from tests.support.template_families import FAMILIES, Family, renderer_of

some = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
_PIECES = [
    "the",
    "cat",
    "Don't",
    "1",
    "23",
    "!",
    "?!\n",
    "é",
    "e\u0301",
    "\u0301",
    "漢字",
    "🙂",
    "\x00",
    "<|",
    "'s",
    "user",
    "system",
    "assistant\n",
    "\n",
    "\u00a0",
]
_PIECES += [
    "\t",
    "\r\n",
    "\u2028",
    "\u200b",
    "\x1c",
    "  ",
    " \n",
    "\n ",
    "</think>",
    "<think>",
    "[INST]",
    "|>",
    "<|im_end|>",
    "\\",
    "{{",
    "▁",
]


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


def _chat(*contents: str) -> Conversation:
    roles = (Role.USER, Role.ASSISTANT)
    return Conversation(messages=tuple(Message(role=roles[i % 2], content=content) for i, content in enumerate(contents)))


PLAIN = _chat("What did\n  the cat say?", "Hello there, user.")
BULKY = (
    "luthier-mini",
    "chatml",
    "granite-3",
    "hermes",
    "llama-3",
    "llama-3.1",
    "marked-chatml",
    "phi-4-mini",
    "qwen-2.5",
    "qwen-3",
    "smollm2",
)


@pytest.mark.parametrize("name", BULKY)
def test_ordinary_talks_are_made_in_bulk(name: str) -> None:
    renderer = renderer_of(name)
    system = replace(PLAIN, messages=(Message(role=Role.SYSTEM, content="Be brief."), *PLAIN.messages))
    assert same(renderer, [PLAIN, system]) == {0, 1}


@pytest.mark.parametrize("kind", [*tokenizers()])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_rows_are_the_renderers_examples_on_every_kind_of_tokenizer(kind: str, data: st.DataObject) -> None:
    renderer = _over(kind, data.draw(st.sampled_from(TEMPLATES)))
    several = data.draw(st.lists(chats(contents(("<|end|>", "<|en", "d|>", "[X]", "X]"))), min_size=1, max_size=5))
    made = same(renderer, [*several, PLAIN])
    assert (len(several) in made) == _is_certain(renderer)


TEMPLATES = tuple(
    "{% for m in messages %}" + turn + "{% endfor %}{% if add_generation_prompt %}" + opening + "{% endif %}"
    for turn, opening in (
        ("<|system|>{{ m.role }}\n{{ m.content }}<|end|>\n", "<|system|>assistant\n"),
        ("[X]{{ m.role }}: {{ m.content | trim }}<|end|>", "[X]assistant: "),
        ("[X]{{ m.content }}<|end|>", "[X]"),
        # A turn ends with a line end, which is no mark.
        ("[X]{{ m.role }}\n{{ m.content }}\n", "[X]assistant\n"),
    )
)


OPENINGS = ("assistant\n", "assistant: ", "", "assistant\n")
"""What each template writes between the mark before an answer and the answer."""


def _is_certain(renderer: Renderer) -> bool:
    """Whether talks like ``PLAIN`` can be made in bulk: turns end with a mark, and no token lies over the beginning of an answer."""
    at = TEMPLATES.index(renderer.template_source)
    words = renderer.tokenizer.word_ids()
    if at == len(TEMPLATES) - 1 or words is None:
        return False
    opening = OPENINGS[at]
    opened = words.encode(opening).ids
    # The second stands for the text that a shape is found with.
    return all(words.encode(opening + first).ids[: len(opened)] == opened for first in ("Hello", "<Aa"))


@cache
def _over(kind: str, template: str) -> Renderer:
    return Renderer(Tokenizer(tokenizers()[kind], {"eos_token": "<|end|>"}), template)


@pytest.mark.parametrize(
    "changed",
    [
        _chat("", "Hello."),
        _chat("Hi.", " Hello."),
        _chat("Hi.\n", "Hello."),
        _chat("Hi <|end|> there.", "Hello."),
        _chat("user", "Hello."),
        replace(PLAIN, tools=({"type": "function", "function": {"name": "f", "parameters": {}}},)),
        replace(PLAIN, messages=(replace(PLAIN.messages[0], name="Ann"), PLAIN.messages[1])),
    ],
)
def test_what_is_not_certain_is_left_to_the_renderer(changed: Conversation) -> None:
    assert same(renderer_of("luthier-mini"), [PLAIN, changed, PLAIN]) == {0, 2}


def test_thoughts_in_an_answer_are_left_to_a_template_that_looks_for_them() -> None:
    thoughtful = _chat("Hi.", "<think>\nwhy</think>\n\nHello.")
    assert same(renderer_of("qwen-3"), [PLAIN, thoughtful]) == {0}
    assert same(renderer_of("qwen-2.5"), [PLAIN, thoughtful]) == {0, 1}


def test_words_are_forgotten_when_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_ids, "_MOST_WORDS", 40)
    renderer = Renderer.load(MINI)
    for start in range(0, 200, 20):
        talks_ = [_chat(f"question {n} of many", f"answer {n}, another\n {n} word") for n in range(start, start + 20)]
        assert same(renderer, talks_) == set(range(20))
    assert renderer._bulk is not None
    assert len(renderer._bulk._words) < 150


def test_few_talks_of_many_kinds_are_not_worth_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "WORTH_A_SHAPE", 3)
    monkeypatch.setattr(bulk, "_MOST_SHAPES", 2)
    renderer = Renderer.load(MINI)
    one, two, three = (_chat(*["Hi.", "Hello."] * n) for n in (1, 2, 3))
    assert same(renderer, [one, two, one, two, one]) == {4}
    assert same(renderer, [one, two, three, three, three, three]) == {0, 1}
