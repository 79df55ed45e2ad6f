"""Calls in the models' own forms, taken out of answers that stream."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.chat.renderer import Renderer
from luthier.chat.tokenizer import Tokenizer
from luthier.chat.tool_calls import FORMS, CallForm, ToolCallStream, call_form, read_calls
from luthier.core.conversation import conversation_of
from luthier.core.generation import CalledTool
from tests.support.mini import MINI

RENDERER = Renderer.load(MINI)
OURS, HERMES = FORMS
MARK = "<|tool_call|>"
TIMER = '{"name": "set_timer", "arguments": {"minutes": 33, "label": "rice"}}'
TIMER_CALL = CalledTool(name="set_timer", arguments='{"minutes": 33, "label": "rice"}')


def _streamed(text: str, stop: tuple[str, ...] = (), form: CallForm = OURS) -> tuple[str, ToolCallStream]:
    stream = ToolCallStream(RENDERER, form, stop)
    pieces = [stream.push(i) for i in RENDERER.tokenizer.encode(text)]
    return "".join([*pieces, stream.finish()]), stream


def test_a_form_is_known_by_the_template() -> None:
    tokenizer = Tokenizer.load(MINI)
    assert call_form(RENDERER) == OURS
    assert call_form(Renderer(tokenizer, "{% if tools %}<tool_call>{% endif %}")) == HERMES
    assert call_form(Renderer(tokenizer, "{{ messages }}")) is None
    assert call_form(Renderer(tokenizer, None)) is None


def test_what_the_template_writes_is_read_back() -> None:
    calls = [
        {"id": "1", "type": "function", "function": {"name": "set_timer", "arguments": TIMER_CALL.arguments}},
        {"id": "2", "type": "function", "function": {"name": "turn_on", "arguments": {"room": "é"}}},
    ]
    talk = conversation_of([{"role": "user", "content": "x"}, {"role": "assistant", "content": "So.", "tool_calls": calls}])
    ids = RENDERER.example(talk).ids_T.tolist()
    answer = RENDERER.tokenizer.decode(ids, skip_special=False).partition("<|assistant|>")[2].removesuffix("<|end|>")
    text, stream = _streamed(answer)
    assert text == "So."
    assert stream.tool_calls == (TIMER_CALL, CalledTool(name="turn_on", arguments='{"room": "é"}'))


def test_the_second_form_has_a_closing_mark() -> None:
    text, stream = _streamed(f"Well <tool_call>\n{TIMER}\n</tool_call>\n<tool_call>{TIMER}</tool_call>", form=HERMES)
    assert text == "Well "
    assert stream.tool_calls == (TIMER_CALL, TIMER_CALL)


@pytest.mark.parametrize(
    "text",
    [
        f"{MARK}" + '{"name": "f", "arguments": {"a": ',
        f"{MARK}{TIMER}{MARK}" + '{"name": "f"',
        f"{MARK}{TIMER} and more",
        f"{MARK}" + '{"name": 5, "arguments": {}}',
        f"{MARK}" + '{"name": "f", "arguments": [1]}',
        f"{MARK}" + '{"name": "f", "arguments": {"a": NaN}}',
        f"{MARK}[1]",
        "a < b <|tool",
        "plain",
        MARK + "[" * 5000,
    ],
)
def test_what_is_no_call_stays_text(text: str) -> None:
    shown, stream = _streamed(text)
    assert shown == text
    assert stream.tool_calls == ()


def test_no_part_of_a_call_is_shown_before_its_end() -> None:
    stream = ToolCallStream(RENDERER, OURS)
    assert "".join(stream.push(i) for i in RENDERER.tokenizer.encode(f"Hi {MARK}{TIMER}")) == "Hi "
    assert stream.tool_calls == ()
    assert stream.finish() == ""
    assert stream.tool_calls == (TIMER_CALL,)


def test_a_stop_string_ends_calls_too() -> None:
    text, stream = _streamed(f"{MARK}{TIMER}\n\nmore", stop=("\n\n",))
    assert (text, stream.stopped, stream.tool_calls) == ("", True, (TIMER_CALL,))


def test_arguments_that_are_text_stay_as_they_are_and_may_be_missing() -> None:
    assert read_calls(MARK + json.dumps({"name": "f", "arguments": '{"a": 1}'}), OURS) == (CalledTool(name="f", arguments='{"a": 1}'),)
    assert read_calls(MARK + '{"name": "f"}', OURS) == (CalledTool(name="f", arguments="{}"),)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet='ab <|>toolcal_{}"', max_size=40))
def test_nothing_is_lost_whatever_the_text(text: str) -> None:
    shown, stream = _streamed(text)
    assert stream.tool_calls == ()
    # A mark that begins no call that can be read stays text as well.
    plain = (RENDERER.tokenizer.decode(RENDERER.tokenizer.encode(part), skip_special=True) for part in text.split(MARK))
    assert shown == MARK.join(plain)
