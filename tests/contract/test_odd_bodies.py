"""Bodies that are valid JSON and nothing a client would send: refused in OpenAI's words, never a fault of ours."""

from typing import Any

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_engine import BASE


def nested(levels: int) -> dict[str, Any]:
    """An object with ``levels`` levels, itself one of them."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def post(server: ApiServer, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    with server.http() as http:
        answer = http.post(f"/v1{path}", json=body)
    return answer.status_code, answer.json()


@pytest.mark.parametrize("kind", [[], {}, ["text"], 5, None, True])
def test_a_parts_type_may_be_anything(server: ApiServer, kind: object) -> None:
    part = {"type": kind, "text": "x"}
    for path, body in (
        ("/chat/completions", {"messages": [{"role": "user", "content": [part]}]}),
        ("/responses", {"input": [{"role": "user", "content": [part]}]}),
        ("/responses/input_tokens", {"input": [{"role": "assistant", "content": [part]}]}),
        ("/luthier/render", {"messages": [{"role": "user", "content": [part]}]}),
    ):
        status, answer = post(server, path, {"model": BASE, **body})
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error"), path
        assert answer["error"]["param"]


@pytest.mark.parametrize("levels", [130, 300, 900])
def test_bodies_that_are_nested_too_deep_are_refused(server: ApiServer, levels: int) -> None:
    function = {"name": "look", "parameters": nested(levels)}
    messages = [{"role": "user", "content": "x"}]
    for path, body in (
        ("/responses", {"input": "x", "tools": [{"type": "function", **function}]}),
        ("/chat/completions", {"messages": messages, "store": True, "tools": [{"type": "function", "function": function}]}),
    ):
        status, answer = post(server, path, {"model": BASE, **body})
        assert (status, answer["error"]["code"]) == (400, "invalid_value"), path
        assert "128 levels" in answer["error"]["message"]
    assert server.engine.generations == []


def test_what_is_not_too_deep_comes_back(server: ApiServer) -> None:
    function = {"name": "look", "parameters": nested(100)}
    status, response = post(server, "/responses", {"model": BASE, "input": "x", "tools": [{"type": "function", **function}]})
    assert (status, response["tools"][0]["parameters"]) == (200, nested(100))
    body = {"model": BASE, "messages": [{"role": "user", "content": "x"}], "store": True}
    status, completion = post(server, "/chat/completions", {**body, "tools": [{"type": "function", "function": function}]})
    assert status == 200
    with server.http() as http:
        assert http.get(f"/v1/responses/{response['id']}").json() == response
        listed = http.get("/v1/chat/completions", params={"order": "desc", "limit": 1}).json()["data"]
    assert (listed[0]["id"], listed[0]["tools"][0]["function"]["parameters"]) == (completion["id"], nested(100))


def test_many_shallow_objects_are_not_deep(server: ApiServer) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "x"}]}] * 200
    assert post(server, "/chat/completions", {"model": BASE, "messages": messages})[0] == 200


def test_an_earlier_call_of_a_custom_tool_is_refused_by_name(server: ApiServer) -> None:
    call = {"id": "call_1", "type": "custom", "custom": {"name": "look", "input": "x"}}
    status, answer = post(server, "/chat/completions", {"model": BASE, "messages": [{"role": "assistant", "tool_calls": [call]}]})
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "unsupported_value", "messages[0].tool_calls[0].type")
    assert "custom tools are not supported" in answer["error"]["message"]


@pytest.mark.parametrize(("role", "field"), [("tool", "tool_call_id"), ("function", "name")])
@pytest.mark.parametrize(("value", "code"), [(None, "missing_required_parameter"), ("", "string_below_min_length")])
def test_an_empty_name_is_not_a_missing_one(server: ApiServer, role: str, field: str, value: str | None, code: str) -> None:
    status, answer = post(server, "/chat/completions", {"model": BASE, "messages": [{"role": role, "content": "x", field: value}]})
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, code, f"messages[0].{field}")


@pytest.mark.parametrize("path", ["", "/input_items"])
def test_what_is_to_be_included_is_checked(server: ApiServer, path: str) -> None:
    _, response = post(server, "/responses", {"model": BASE, "input": "x"})
    with server.http() as http:
        known = http.get(f"/v1/responses/{response['id']}{path}", params={"include": "message.output_text.logprobs"})
        unknown = http.get(f"/v1/responses/{response['id']}{path}", params={"include": "everything"})
    assert known.status_code == 200
    assert (unknown.status_code, unknown.json()["error"]["code"], unknown.json()["error"]["param"]) == (400, "invalid_value", "include[0]")
