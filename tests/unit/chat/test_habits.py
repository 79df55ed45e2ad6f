"""Calls in the form that a template writes right."""

import pytest

from luthier.chat.habits import Habits, short_id
from luthier.chat.template import Template
from luthier.core.conversation import Message, Role
from tests.support.template_families import renderer_of

CALL = {"id": "call_0123456789abcdef", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def _calls(name: str, arguments: str = '{"a": 1}') -> list[dict[str, object]]:
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}
    template = Template(renderer_of(name).template_source or "", {"bos_token": "<s>", "eos_token": "</s>"})
    return Habits(template).plain(Message(role=Role.ASSISTANT, tool_calls=(call,)))["tool_calls"]


@pytest.mark.parametrize("name", ["qwen-2.5", "llama-3.1", "hermes", "granite-3", "phi-4-mini"])
def test_arguments_are_an_object_where_text_would_be_encoded_twice(name: str) -> None:
    assert _calls(name)[0]["function"] == {"name": "f", "arguments": {"a": 1}}


@pytest.mark.parametrize("name", ["luthier-mini", "qwen-3"])
def test_arguments_stay_text_where_the_template_takes_text(name: str) -> None:
    assert _calls(name)[0]["function"] == CALL["function"]


@pytest.mark.parametrize("arguments", ["[1]", "{", "", "[" * 100_000, "1" * 10_000])
def test_arguments_that_are_no_object_stay_as_they_are(arguments: str) -> None:
    assert _calls("hermes", arguments)[0]["function"] == {"name": "f", "arguments": arguments}


def test_ids_are_shortened_only_where_the_template_refuses_others() -> None:
    assert _calls("qwen-2.5")[0]["id"] == CALL["id"]
    template = Template(renderer_of("mistral-v3").template_source or "", {"bos_token": "<s>", "eos_token": "</s>"})
    habits = Habits(template)
    asked = habits.plain(Message(role=Role.ASSISTANT, tool_calls=(CALL,)))["tool_calls"][0]["id"]
    answered = habits.plain(Message(role=Role.TOOL, content="x", tool_call_id=CALL["id"]))["tool_call_id"]
    assert asked == answered == short_id("call_0123456789abcdef")
    assert len(asked) == 9
    assert short_id("abcDEF123") == "abcDEF123"
    assert short_id("call-1234") != "call-1234"
