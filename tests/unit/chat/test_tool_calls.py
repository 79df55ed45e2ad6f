"""Calls in the models' own forms, taken out of answers that stream."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.chat.families import HERMES, LLAMA, MISTRAL, PHI4, CallForm, call_form
from luthier.chat.families import LUTHIER as OURS
from luthier.chat.renderer import Renderer
from luthier.chat.tokenizer import Tokenizer
from luthier.chat.tool_calls import ToolCallStream, read_calls
from luthier.core.conversation import conversation_of
from luthier.core.generation import CalledTool
from tests.support.mini import MINI
from tests.support.template_families import renderer_of

RENDERER = Renderer.load(MINI)
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
    assert call_form(Renderer(tokenizer, "{% if tools %}<tool_call>{}</tool_call>{% endif %}")) == HERMES
    assert call_form(Renderer(tokenizer, "{{ messages }}")) is None
    assert call_form(Renderer(tokenizer, None)) is None


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("granite-3", OURS),
        ("hermes", HERMES),
        ("llama-3.1", LLAMA),
        ("luthier-mini", OURS),
        ("mistral-nemo", MISTRAL),
        ("mistral-v3", MISTRAL),
        ("phi-4-mini", PHI4),
        ("qwen-2.5", HERMES),
        ("qwen-3", HERMES),
        ("smollm3", HERMES),
        ("chatml", None),
        ("gemma", None),
        ("llama-3", None),
    ],
)
def test_the_form_of_a_family_is_known(name: str, form: CallForm | None) -> None:
    assert call_form(renderer_of(name)) == form


def test_a_template_of_no_known_family_is_asked_for_its_form() -> None:
    source = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls or [] %}@@call {{ c.function | tojson }} @@end"
        "{% endfor %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    form = call_form(Renderer(Tokenizer.load(MINI), source))
    assert form == CallForm("@@call", "@@end")
    assert form is not None
    text, stream = _streamed(f"So. @@call {TIMER} @@end @@call {TIMER} @@end", form=form)
    assert (text, stream.tool_calls) == ("So. ", (TIMER_CALL, TIMER_CALL))


LLAMAS = TIMER.replace("arguments", "parameters")


@pytest.mark.parametrize("text", [LLAMAS, f"<|python_tag|>{LLAMAS}", f" {{\n {LLAMAS[1:]}", f"{LLAMAS}"])
def test_a_call_without_a_mark_is_the_whole_answer(text: str) -> None:
    stream = ToolCallStream(renderer_of("llama-3.1"), LLAMA)
    shown = "".join([*(stream.push(i) for i in renderer_of("llama-3.1").tokenizer.encode(text)), stream.finish()])
    assert (shown, stream.tool_calls) == ("", (TIMER_CALL,))


def test_json_that_is_no_call_streams_as_text() -> None:
    stream = ToolCallStream(renderer_of("llama-3.1"), LLAMA)
    encode = renderer_of("llama-3.1").tokenizer.encode
    assert "".join(stream.push(i) for i in encode('{"city": "Paris"')) == '{"city": "Paris"'
    assert "".join([*(stream.push(i) for i in encode("}")), stream.finish()]) == "}"
    assert read_calls(f"{LLAMAS}; {LLAMAS}", LLAMA) == (TIMER_CALL, TIMER_CALL)
    assert read_calls(f"{LLAMAS} and more", LLAMA) is None


def test_letters_of_a_special_mark_open_no_call() -> None:
    talk = conversation_of([{"role": "user", "content": "x"}, {"role": "assistant", "content": f"{MARK}{TIMER}"}])
    example = RENDERER.example(talk)
    stream = ToolCallStream(RENDERER, OURS)
    ids = example.ids_T[example.weights_T > 0].tolist()[:-1]
    assert "".join([*(stream.push(i) for i in ids), stream.finish()]) == f"{MARK}{TIMER}"
    assert stream.tool_calls == ()


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
    text, stream = _streamed(f"Well \n<tool_call>\n{TIMER}\n</tool_call>\n<tool_call>{TIMER}</tool_call>", form=HERMES)
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
