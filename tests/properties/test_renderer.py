"""What must hold of every rendered conversation, over the templates of many families (``tests/support/templates``)."""

import json
import unicodedata
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.chat.cuts import tokens_between_cuts
from luthier.chat.renderer import Renderer
from luthier.chat.stream import StreamDecoder
from luthier.core.conversation import Conversation, Message, Role, message_to_dict
from luthier.core.tokens import Rendered, TokenKind
from tests.support.talks import talks
from tests.support.template_families import FAMILIES, Family, renderer_of, transformers_of

pytestmark = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
some = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def _theirs(family: Family, conversation: Conversation, *, opened: bool = False) -> tuple[str, list[int]]:
    """What transformers gives: text and ids."""
    messages: list[dict[str, Any]] = []
    for message in conversation.messages:
        plain = message_to_dict(message)
        if message.tool_calls:  # transformers documents arguments as objects
            calls = [{**c, "function": {**c["function"], "arguments": json.loads(c["function"]["arguments"])}} for c in message.tool_calls]
            plain["tool_calls"] = calls
        messages.append(plain)
    tools = list(conversation.tools) or None
    tokenizer = transformers_of(family.name)
    text = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=opened, tokenize=False)
    ids = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=opened, tokenize=True, return_dict=False)
    return text, list(ids)


def _text(renderer: Renderer, ids_T: np.ndarray) -> str:
    """Exactly what the ids stand for."""
    return b"".join(renderer.tokenizer.token_bytes(i) for i in ids_T.tolist()).decode("utf-8", "replace")


def _upto(conversation: Conversation, index: int) -> Conversation:
    return replace(conversation, messages=conversation.messages[:index])


def _answers(rendered: Rendered) -> dict[int, tuple[int, int]]:
    """First and past-the-last token of each trained message."""
    return {s.message: (s.start, s.end) for s in rendered.spans if s.kind is TokenKind.TRAINED}


def _learned(conversation: Conversation) -> set[int]:
    return {i for i, m in enumerate(conversation.messages) if m.role is Role.ASSISTANT and m.weight > 0}


@some
@given(data=st.data())
def test_prompts_are_what_the_models_own_template_gives(family: Family, data: st.DataObject) -> None:
    renderer, talk = renderer_of(family.name), data.draw(talks(family))
    for i in [i for i, m in enumerate(talk.messages) if m.role is Role.ASSISTANT]:
        text, ids = _theirs(family, _upto(talk, i), opened=True)
        ours = renderer.prompt(_upto(talk, i)).ids_T
        assert _same_but_for_borders(renderer, family, text, ids, ours)


@some
@given(data=st.data())
def test_examples_are_what_the_models_own_template_gives(family: Family, data: st.DataObject) -> None:
    renderer, talk = renderer_of(family.name), data.draw(talks(family))
    ours, (text, ids) = renderer.example(talk), _theirs(family, talk)
    ends_learned = max(_learned(talk), default=-1) in (-1, len(talk.messages) - 1)
    if family.opens_truly and (family.extends or ends_learned):
        assert _same_but_for_borders(renderer, family, text, ids, ours.ids_T)
    elif ours.ids_T.tolist() != ids:
        # Then it is serving's prompt with the answer after it, and the template does not write that itself.
        last = max(_learned(talk))
        prompt = renderer.prompt(_upto(talk, last)).ids_T.tolist()
        assert ours.ids_T[: len(prompt)].tolist() == prompt
        assert not text.startswith(_theirs(family, _upto(talk, last), opened=True)[0]) or last < len(talk.messages) - 1


def _same_but_for_borders(renderer: Renderer, family: Family, text: str, theirs: list[int], ours_T: np.ndarray) -> bool:
    """The same ids; or, where a token of theirs lies across the border of an answer, the same text with a border there."""
    if ours_T.tolist() == theirs or not family.straddles:
        return ours_T.tolist() == theirs
    return _text(renderer, ours_T) == _text(renderer, np.asarray(theirs)) and len(ours_T) != 0


@some
@given(data=st.data())
def test_a_prompt_is_its_example_up_to_the_first_trained_token(family: Family, data: st.DataObject) -> None:
    renderer, talk = renderer_of(family.name), data.draw(talks(family))
    seen: set[int] = set()
    for part in renderer.split(talk):
        example = renderer.example(part)
        assert example.rewritten == ()
        assert _answers(example).keys() == _learned(part)
        for index, (start, _) in _answers(example).items():
            prompt = renderer.prompt(_upto(part, index))
            assert prompt.num_trained == 0
            assert example.ids_T[:start].tolist() == prompt.ids_T.tolist()
            assert index not in seen
            seen.add(index)
    assert seen == _learned(talk)


@some
@given(data=st.data())
def test_an_answer_that_is_parsed_is_the_answer_that_was_rendered(family: Family, data: st.DataObject) -> None:
    renderer, talk = renderer_of(family.name), data.draw(talks(family, weights=False))
    for part in renderer.split(talk):
        example = renderer.example(part)
        for index, (start, end) in _answers(example).items():
            if part.messages[index].tool_calls:
                continue
            ids = example.ids_T[start:end].tolist()
            form = renderer.answer_form
            assert form is not None
            if form.end_mark:
                assert ids[-1] in renderer.stop_ids
                ids.pop()
            stream = StreamDecoder(renderer.tokenizer, opening=form.opening, closing=form.closing or ("" if form.end_mark else form.tail))
            text = "".join([*(stream.push(i) for i in ids), stream.finish()])
            assert text == _written(family, part.messages[index])


def _written(family: Family, message: Message) -> str:
    content = message.content.strip() if family.trims else message.content
    if family.name in ("qwen-3", "smollm3"):
        content = content.lstrip("\n")
    return unicodedata.normalize("NFC", content) if family.name.startswith("qwen") else content


@some
@given(data=st.data())
def test_a_longer_talk_begins_with_the_shorter_one_or_says_so(family: Family, data: st.DataObject) -> None:
    renderer, talk = renderer_of(family.name), data.draw(talks(family))
    example = renderer.example(talk)
    if family.extends:
        assert example.rewritten == ()
    assert _answers(example).keys() == _learned(talk) - set(example.rewritten)
    for index, (_, end) in _answers(example).items():
        shorter = renderer.example(_upto(talk, index + 1))
        assert shorter.ids_T[:end].tolist() == example.ids_T[:end].tolist()


@some
@given(data=st.data())
def test_trained_tokens_are_the_answers_and_their_ends_only(family: Family, data: st.DataObject) -> None:
    renderer, talk = renderer_of(family.name), data.draw(talks(family))
    form = renderer.answer_form
    assert form is not None
    for part in renderer.split(talk):
        example = renderer.example(part)
        assert set(np.flatnonzero(example.weights_T)) == {t for start, end in _answers(example).values() for t in range(start, end)}
        for index, (start, end) in _answers(example).items():
            text = _text(renderer, example.ids_T[start:end])
            message = part.messages[index]
            if not message.tool_calls:
                end_mark = form.end_mark or form.tail
                assert text.removeprefix(form.opening) == f"{_written(family, message)}{form.closing if form.end_mark else ''}{end_mark}"
            elif form.end_mark:
                assert text.endswith(form.end_mark)
                assert all(call["function"]["name"] in text for call in message.tool_calls)


@some
@given(data=st.data())
def test_messages_of_weight_zero_are_not_learned_and_change_no_token(family: Family, data: st.DataObject) -> None:
    renderer, talk = renderer_of(family.name), data.draw(talks(family))
    nothing = renderer.example(replace(talk, messages=tuple(replace(m, weight=0.0) for m in talk.messages)))
    assert nothing.num_trained == 0
    example = renderer.example(talk)
    for span in example.spans:
        if span.message >= 0 and talk.messages[span.message].weight == 0:
            assert not example.weights_T[span.start : span.end].any()
    if family.extends:
        assert example.ids_T.tolist() == nothing.ids_T.tolist()


@some
@given(data=st.data())
def test_a_special_mark_in_a_text_stays_text(family: Family, data: st.DataObject) -> None:
    renderer = renderer_of(family.name)
    marks = renderer.tokenizer.added_texts()
    talk = data.draw(talks(family, extra=marks[-8:], weights=False))
    harmless = replace(talk, messages=tuple(replace(m, content=_harmless(m.content, marks)) for m in talk.messages))
    special = renderer.tokenizer.special_ids
    for with_marks, without in ((renderer.example(talk), renderer.example(harmless)), (renderer.prompt(talk), renderer.prompt(harmless))):
        assert [i for i in with_marks.ids_T.tolist() if i in special] == [i for i in without.ids_T.tolist() if i in special]
    text, _ = _theirs(family, talk, opened=True)
    shown = _text(renderer, renderer.prompt(talk).ids_T)
    text = unicodedata.normalize("NFC", text) if family.name.startswith("qwen") else text
    # Such tokenizers may put a space before what follows a mark, or swallow the white space there.
    assert shown.split() == text.split() if not family.pieces else "".join(shown.split()) == "".join(text.split())


def _harmless(text: str, marks: tuple[str, ...]) -> str:
    for mark in sorted(marks, key=len, reverse=True):
        text = text.replace(mark, "hello")
    return text


@some
@given(data=st.data())
def test_tokens_are_those_of_the_text_cut_step_by_step(family: Family, data: st.DataObject) -> None:
    renderer, talk = renderer_of(family.name), data.draw(talks(family))
    located = renderer._locator.prompt([renderer._habits.plain(m) for m in talk.messages], talk.tools)
    assert located.text == _theirs(family, talk, opened=True)[0]
    cuts = sorted({0, len(located.text), *(border for r in located.answers for border in (r.start, r.end))})
    assert renderer.prompt(talk).ids_T.tolist() == tokens_between_cuts(renderer.tokenizer, located.text, cuts)[0]


@some
@given(data=st.data())
def test_many_examples_at_once_are_the_same_as_one_by_one(family: Family, data: st.DataObject) -> None:
    renderer = renderer_of(family.name)
    several = data.draw(st.lists(talks(family, extra=renderer.tokenizer.added_texts()[:2]), min_size=1, max_size=4))
    for one, many in zip([renderer.example(talk) for talk in several], renderer.examples(several), strict=True):
        assert isinstance(many, Rendered)
        assert one.ids_T.tolist() == many.ids_T.tolist()
        assert one.weights_T.tolist() == many.weights_T.tolist()
        assert (one.spans, one.rewritten) == (many.spans, many.rewritten)
