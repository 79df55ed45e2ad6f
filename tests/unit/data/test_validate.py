"""Rows: strict JSON, the two formats, and OpenAI's wording of every fault."""

import orjson
import pytest

from luthier.core.conversation import Role
from luthier.core.examples import LineError, RowFormat, SftExample, SourceLine
from luthier.data.validate import check_row, format_of, parse_row

SOURCE = SourceLine("file-A", 7)
USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "light", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "light", "parameters": {"type": "object"}}}


def _check(row: dict) -> SftExample | LineError:
    return check_row(row, format_of(row), SOURCE, message_code="invalid_training_file")


def _good(row: dict) -> SftExample:
    outcome = _check(row)
    assert isinstance(outcome, SftExample), outcome
    return outcome


def _bad(row: dict) -> LineError:
    outcome = _check(row)
    assert isinstance(outcome, LineError)
    return outcome


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e400}',
        b'{"a": "\\ud800"}',
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b"1" * 5000 + b"}",
        b'{"a": "\xff"}',
        b'{"a": "\xc0\xaf"}',
        b"{'a': 1}",
        b'{"a": 1} {"b": 2}',
        b"[]",
        b"null",
        b'"text"',
        "{}".encode("utf-16"),
    ],
)
def test_what_is_not_one_strict_json_object_is_a_fault_of_the_line(data):
    outcome = parse_row(data, SOURCE)
    assert isinstance(outcome, LineError)
    assert outcome.code == "invalid_file_format"
    assert outcome.message.startswith("Example 7 ")
    assert outcome.source == SOURCE


def test_the_byte_of_a_json_fault_is_named_in_bytes_not_characters():
    outcome = parse_row('{"é": x}'.encode(), SOURCE)
    assert isinstance(outcome, LineError)
    assert "at byte 8." in outcome.message


def test_utf16_is_named():
    outcome = parse_row(b"\xff\xfe{\x00", SOURCE)
    assert isinstance(outcome, LineError)
    assert "UTF-16" in outcome.message


def test_a_chat_row_keeps_roles_weights_and_its_line():
    row = {"messages": [{"role": "system", "content": "s"}, USER, {**ASSISTANT, "weight": 0}, USER, {**ASSISTANT, "weight": 1}]}
    example = _good(row)
    assert example.source == SOURCE
    assert [m.role for m in example.conversation.messages] == [Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.USER, Role.ASSISTANT]
    assert [m.weight for m in example.conversation.messages if m.role is Role.ASSISTANT] == [0.0, 1.0]


def test_a_prompt_completion_row_is_one_user_and_one_assistant_message():
    messages = _good({"prompt": "a", "completion": "b"}).conversation.messages
    assert [(m.role, m.content) for m in messages] == [(Role.USER, "a"), (Role.ASSISTANT, "b")]


def test_text_parts_are_joined_and_tools_kept():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    row = {"messages": [{"role": "user", "content": parts}, ASSISTANT], "tools": [TOOL], "parallel_tool_calls": False}
    conversation = _good(row).conversation
    assert conversation.messages[0].content == "ab"
    assert conversation.tools == (TOOL,)


def test_an_assistant_message_may_have_tool_calls_alone_and_end_the_row():
    messages = _good({"messages": [USER, {"role": "assistant", "tool_calls": [CALL]}], "tools": [TOOL]}).conversation.messages
    assert messages[1].tool_calls == (CALL,)
    assert messages[1].content == ""


def test_old_functions_become_tools():
    function = {"name": "light", "parameters": {}}
    call = {"name": "light", "arguments": "{}"}
    answer = {"role": "function", "name": "light", "content": "on"}
    row = {"messages": [USER, {"role": "assistant", "content": None, "function_call": call}, answer, ASSISTANT], "functions": [function]}
    conversation = _good(row).conversation
    assert conversation.tools == ({"type": "function", "function": function},)
    assert conversation.messages[1].tool_calls == ({"type": "function", "function": call},)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [USER, ASSISTANT], "weight": 1}, 'Example 7 contains an extra "weight".'),
        ({"input": {}}, "Example 7 is missing key 'messages'."),
        ({}, "Example 7 is missing key 'messages'."),
        ({"prompt": "a"}, "Example 7 is missing key 'completion'."),
        ({"prompt": "a", "completion": "b", "x\n": 1}, 'Example 7 contains an extra "x\\n".'),
        ({"prompt": "a", "completion": ["b"]}, "Example 7 has a 'completion' that is not a string."),
    ],
)
def test_faults_of_the_row_are_format_faults_in_openais_words(row, message):
    fault = _bad(row)
    assert (fault.code, fault.message) == ("invalid_file_format", message)


@pytest.mark.parametrize(
    ("messages", "message", "path"),
    [
        ([USER, {"content": "x"}], "Example 7, message 2 Discriminator 'role' is missing in value", "messages[1].role"),
        ([{"role": "robot", "content": "x"}], "Example 7, message 1 Discriminator 'role' has the value \"robot\"", "messages[0].role"),
        ([USER, {"role": "assistant"}], "Example 7, message 2 is missing key 'content'", "messages[1].content"),
        ([USER, {"role": "assistant", "content": ""}], "Example 7, message 2 with role 'assistant' has an empty", "messages[1].content"),
        ([USER, {**ASSISTANT, "weight": 2}], "Example 7, message 2 has a 'weight' that is not 0 or 1", "messages[1].weight"),
        ([USER, {**ASSISTANT, "weight": True}], "Example 7, message 2 has a 'weight' that is not 0 or 1", "messages[1].weight"),
        ([USER, {**ASSISTANT, "mood": 1}], 'Example 7, message 2 contains an extra "mood"', "messages[1].mood"),
        ([{"role": "user", "content": [{"type": "image_url"}]}, ASSISTANT], "Example 7, message 1 has a content part of type", None),
        ([USER, {"role": "tool", "content": "x", "tool_call_id": "c"}, ASSISTANT], "Example 7, message 2 with role 'tool' must be", None),
        ([USER, {"role": "assistant", "tool_calls": [CALL]}, USER, ASSISTANT], "Example 7, message 2 with 'tool_calls' must be", None),
        (
            [USER, {"role": "assistant", "tool_calls": [{**CALL, "id": None}]}],
            "Example 7, message 2 has a tool call 1 that is missing",
            None,
        ),
        ([USER, "text"], "Example 7, message 2 is not a JSON object", "messages[1]"),
    ],
)
def test_faults_of_a_message_name_it_and_its_path(messages, message, path):
    fault = _bad({"messages": messages})
    assert fault.code == "invalid_training_file"
    assert fault.message.startswith(message)
    assert path is None or fault.path == path


@pytest.mark.parametrize("messages", [[USER], [USER, {**ASSISTANT, "weight": 0}]])
def test_a_row_without_anything_to_learn_is_a_fault(messages):
    assert "nothing to learn from" in _bad({"messages": messages}).message


@pytest.mark.parametrize("messages", [None, [], "text", {}])
def test_messages_must_be_a_filled_list(messages):
    assert "'messages'" in _bad({"messages": messages}).message


def test_answered_tool_calls_may_go_on():
    answer = {"role": "tool", "tool_call_id": "call_1", "content": "on"}
    assert len(_good({"messages": [USER, {"role": "assistant", "tool_calls": [CALL]}, answer, ASSISTANT]}).conversation.messages) == 4


@pytest.mark.parametrize("tools", [[], [{}], [{"type": "function"}], [{"type": "function", "function": {"name": ""}}], "x"])
def test_malformed_tools_are_faults(tools):
    assert "'" in _bad({"messages": [USER, ASSISTANT], "tools": tools}).message


def test_another_format_than_the_files_is_a_fault():
    chat, completion = {"messages": [USER, ASSISTANT]}, {"prompt": "a", "completion": "b"}
    for row, row_format in ((chat, RowFormat.PROMPT_COMPLETION), (completion, RowFormat.CHAT)):
        fault = check_row(row, row_format, SOURCE, message_code="invalid_training_file")
        assert isinstance(fault, LineError)
        assert "row in a file of" in fault.message


def test_double_encoded_arguments_are_tolerated():
    call = {**CALL, "function": {"name": "fly", "arguments": orjson.dumps('{"a": 1}').decode()}}
    assert _good({"messages": [USER, {"role": "assistant", "tool_calls": [call]}]})
