"""Import of talks: calls and answers of tools in the forms of other tools, and system messages beside them."""

import json

import pytest

from luthier.data.import_rows import BadRows


def test_sharegpt_talks_and_tool_calls(imports):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    rows = [
        {"conversations": [{"from": "system", "value": "s"}, {"from": "Human", "value": "h"}, {"from": "gpt", "value": "g"}]},
        {"conversations": [{"from": "human", "value": "h"}, {"role": "assistant", "content": None, "tool_calls": [call], "name": None}]},
    ]
    imports.run(imports.file("a.jsonl", "\n".join(map(json.dumps, rows))))
    first, second = (json.loads(line) for line in imports.output.read_text().splitlines())
    assert [m["role"] for m in first["messages"]] == ["system", "user", "assistant"]
    assert second["messages"][1] == {
        "role": "assistant",
        "tool_calls": [{**call, "function": {"name": "f", "arguments": '{"a": 1}'}}],
    }


def _talk(*turns: tuple[str, object], **more: object) -> dict[str, object]:
    return {"conversations": [{"from": role, "value": value} for role, value in turns], **more}


def _call(call_id: str, name: str, arguments: str) -> dict[str, object]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_sharegpt_calls_and_observations_become_tool_calls_and_tool_messages(imports):
    bare = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    rows = [
        _talk(
            ("human", "h"),
            ("function_call", '{"name": "f", "arguments": {"a": "é"}}'),
            ("observation", "o"),
            ("gpt", "Again."),
            ("function_call", [{"name": "f", "arguments": '{"a": 1}'}, {"name": "g"}]),
            ("observation", '[{"x": 1}, "two"]'),
            ("gpt", "g"),
            system="s",
            tools=json.dumps([bare]),
        ),
        _talk(("human", "h"), ("gpt", "g"), tools="[]"),
    ]
    imports.run(imports.file("a.json", json.dumps(rows)))
    first, second = (json.loads(line) for line in imports.output.read_text().splitlines())
    assert first["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "h"},
        {"role": "assistant", "tool_calls": [_call("call_1", "f", '{"a": "é"}')]},
        {"role": "tool", "tool_call_id": "call_1", "content": "o"},
        {"role": "assistant", "content": "Again.", "tool_calls": [_call("call_2", "f", '{"a": 1}'), _call("call_3", "g", "{}")]},
        {"role": "tool", "tool_call_id": "call_2", "content": '{"x": 1}'},
        {"role": "tool", "tool_call_id": "call_3", "content": "two"},
        {"role": "assistant", "content": "g"},
    ]
    assert first["tools"] == [{"type": "function", "function": bare}]
    assert "tools" not in second
    assert imports.notes == ["columns: conversations -> messages, system -> system, tools -> tools"]


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([("function_call", "{nope")], "message 2, a function call, is not valid JSON: "),
        ([("function_call", '{"arguments": {}}')], "message 2, a function call, is not an object with the function's name"),
        ([("function_call", "[]")], "message 2, a function call, has no call in it."),
        ([("function_call", '{"name": "f", "arguments": [1]}')], "message 2, a function call, has arguments that are not an object."),
        ([("observation", "o")], "message 2, an observation, answers no call before it."),
        ([("gpt", "<tool_call>{nope</tool_call>")], "message 2, a function call, is not valid JSON: "),
        ([("gpt", "<tool_call>{'a': {1}}</tool_call>")], "message 2, a function call, is not valid JSON: "),
        ([("gpt", '<tool_call>{"name": "f"}')], "message 2 has a <tool_call> without its </tool_call>."),
        ([("gpt", '<tool_call>{"name": "f"}</tool_call> And so on.')], "message 2 goes on in words after a tool call, "),
        ([("gpt", '<tool_call>{"name": "f"}</tool_call>'), ("tool", "<tool_response>1</tool_response>" * 2)], "message 3 has 2 <tool_r"),
        ([("function_call", '[{"name": "f"}, {"name": "g"}]'), ("observation", "o"), ("gpt", "g")], "responding to each 'tool_call_id'"),
    ],
)
def test_a_call_that_cannot_be_read_is_named_with_its_line(imports, turns, words):
    rows = [_talk(("human", "h"), ("gpt", "g")), _talk(("human", "h"), *turns)]
    with pytest.raises(BadRows):
        imports.run(imports.file("a.jsonl", "\n".join(map(json.dumps, rows))))
    assert imports.notes[1].startswith("line 2: ")
    assert words in imports.notes[1]


def test_calls_marked_in_the_assistants_text_become_tool_calls(imports):
    rows = [
        _talk(
            ("system", "<tools>[]</tools>"),
            ("human", "h"),
            ("gpt", 'Let me see.\n<tool_call>\n{"name": "f", "arguments": {"a": "</b> é"}}\n</tool_call>'),
            ("tool", '<tool_response>\n{"x": 1}\n</tool_response>'),
            ("gpt", "<tool_call>{'name': 'g', 'arguments': {'b': True}}</tool_call>\n<tool_call>\n{\"name\": \"f\"}\n</tool_call>\n"),
            ("human", "<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response>"),
            ("gpt", "Write <tool_call> and then an object."),
            ("human", "<tool_response>no answer</tool_response>"),
            ("gpt", "g"),
        )
    ]
    imports.run(imports.file("a.json", json.dumps(rows)))
    (row,) = (json.loads(line) for line in imports.output.read_text().splitlines())
    assert row["messages"] == [
        {"role": "system", "content": "<tools>[]</tools>"},
        {"role": "user", "content": "h"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [_call("call_1", "f", '{"a": "</b> é"}')]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"x": 1}'},
        {"role": "assistant", "tool_calls": [_call("call_2", "g", '{"b": true}'), _call("call_3", "f", "{}")]},
        {"role": "tool", "tool_call_id": "call_2", "content": "one"},
        {"role": "tool", "tool_call_id": "call_3", "content": "two"},
        {"role": "assistant", "content": "Write <tool_call> and then an object."},
        {"role": "user", "content": "<tool_response>no answer</tool_response>"},
        {"role": "assistant", "content": "g"},
    ]


def test_a_system_column_beside_talks_that_may_have_their_own(imports):
    own = [("system", "mine"), ("human", "h"), ("gpt", "g")]
    rows = [_talk(*own[1:], system="s"), _talk(*own, system="s"), _talk(*own, system=""), _talk(*own, system="mine")]
    imports.run(imports.file("a.json", json.dumps(rows)))
    assert [talk[0] for talk in imports.talks()] == [("system", "s"), ("system", "mine"), ("system", "mine"), ("system", "mine")]
    assert imports.notes[1:] == ["not used: system has a value in 1 row"]
