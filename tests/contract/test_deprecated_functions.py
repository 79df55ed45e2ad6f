"""``functions`` and ``function_call``, the form that ``tools`` replaced, as the official client sends and reads it."""

import json
from typing import Any

import openai
import pytest

from tests.contract.test_tool_calls import LIGHT, TIMER, calling
from tests.support.api_server import TUNED, ApiServer
from tests.support.fake_engine import saying

FUNCTIONS: list[Any] = [
    {"name": name, "description": "x", "parameters": {"type": "object", "properties": {}}} for name in ("set_timer", "turn_on")
]
AS_TOOLS = tuple({"type": "function", "function": function} for function in FUNCTIONS)
TOOL = {"type": "function", "function": {"name": "f"}}


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    messages = [{"role": "user", "content": "The rice needs 33 minutes"}]
    return client.chat.completions.create(**{"model": TUNED, "messages": messages, "functions": FUNCTIONS, **fields})


def test_functions_reach_the_model_as_tools(server: ApiServer) -> None:
    for choice, tools in ((openai.NOT_GIVEN, AS_TOOLS), ("auto", AS_TOOLS), ("none", ())):
        ask(server.client(), function_call=choice)
        request = server.engine.generations[-1]
        assert (request.tools, request.parse_tool_calls) == (tools, bool(tools))


def test_a_call_stands_in_function_call(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = calling(TIMER, LIGHT)
    choice = ask(client).choices[0]
    assert (choice.finish_reason, choice.message.content, choice.message.tool_calls) == ("function_call", None, None)
    assert (choice.message.function_call.name, choice.message.function_call.arguments) == ("set_timer", TIMER.arguments)


def test_an_answer_without_a_call_is_as_ever(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = saying("words")
    choice = ask(client).choices[0]
    assert (choice.finish_reason, choice.message.content, choice.message.function_call) == ("stop", "words", None)


def test_a_streamed_call_comes_as_the_name_and_then_the_arguments(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = calling(TIMER, LIGHT, text="Of course.")
    chunks = [c.choices[0] for c in ask(client, stream=True)]
    assert [c.finish_reason for c in chunks] == [None] * 4 + ["function_call"]
    deltas = [c.delta.function_call for c in chunks if c.delta.function_call]
    assert [(d.name, d.arguments) for d in deltas] == [("set_timer", ""), (None, TIMER.arguments)]
    assert not any(c.delta.tool_calls for c in chunks)
    assert "".join(c.delta.content or "" for c in chunks) == "Of course."


def test_the_next_turn_gives_the_result_back(server: ApiServer) -> None:
    server.engine.generate = calling(TIMER)
    client = server.client()
    said = ask(client).choices[0].message
    messages = [{"role": "user", "content": "x"}, said, {"role": "function", "name": "set_timer", "content": "done"}]
    ask(client, messages=messages)
    asked = server.engine.generations[-1].messages
    assert asked is not None
    _, call, result = asked
    assert call["tool_calls"][0]["function"] == {"name": "set_timer", "arguments": TIMER.arguments}
    assert result == {"role": "function", "name": "set_timer", "content": "done"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_stored_call_becomes_a_training_row(server: ApiServer, stream: bool) -> None:
    server.engine.generate = calling(TIMER)
    client, label = server.client(), {"task": f"functions-{stream}"}
    answer = ask(client, store=True, metadata=label, stream=stream)
    if stream:
        list(answer)
    (kept,) = client.chat.completions.list(metadata=label)
    assert kept.choices[0].message.function_call is not None
    with server.http() as http:
        made = http.post("/v1/luthier/files/from_completions", json={"metadata": label}).json()
        row = json.loads(http.get(f"/v1/files/{made['id']}/content").content)
    assert row["messages"][-1]["function_call"] == {"name": "set_timer", "arguments": TIMER.arguments}
    assert [tool["function"]["name"] for tool in row["tools"]] == ["set_timer", "turn_on"]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"function_call": {"name": "set_timer"}}, "unsupported_value", "function_call"),
        ({"function_call": "required"}, "invalid_value", "function_call"),
        ({"function_call": {}}, "invalid_value", "function_call"),
        ({"functions": []}, "array_below_min_length", "functions"),
        ({"functions": FUNCTIONS * 65}, "array_above_max_length", "functions"),
        ({"functions": [{"description": "x"}]}, "missing_required_parameter", "functions[0].name"),
        ({"functions": [{"name": "two words"}]}, "invalid_value", "functions[0].name"),
        ({"functions": [{"name": "f", "strict": True}]}, "unknown_parameter", "functions[0].strict"),
        ({"tools": [TOOL]}, "invalid_parameter_combination", "functions"),
        ({"tool_choice": "auto"}, "invalid_parameter_combination", "functions"),
        ({"functions": None, "tools": [TOOL], "function_call": "none"}, "invalid_parameter_combination", "function_call"),
    ],
)
def test_what_is_wrong_or_not_offered_is_400(server: ApiServer, fields: dict[str, Any], code: str, param: str) -> None:
    body = {"model": TUNED, "messages": [{"role": "user", "content": "x"}], "functions": FUNCTIONS, **fields}
    with server.http() as http:
        answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400, answer.text
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)
    assert not server.engine.generations
