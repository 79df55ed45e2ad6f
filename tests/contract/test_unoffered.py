"""Everything that OpenAI's document allows and this server does not do: refused by name, or taken without effect, never by accident.

The kinds of tools and items are read from the document: a new one is tested as soon as the document has it.
"""

from typing import Any

import pytest

from tests.support.api_server import TUNED, ApiServer
from tests.support.conformance import UNSERVED, load_rules
from tests.support.openapi_document import OpenApi

DOCUMENT = OpenApi.load()
HI: list[Any] = [{"role": "user", "content": "hi"}]
FUNCTION: dict[str, Any] = {"name": "f", "parameters": {"type": "object", "properties": {}}}


def kinds(union: str, *known: str) -> list[str]:
    """The values of ``type`` among a union's members, without the known ones."""
    found = set()
    for shape in DOCUMENT.shapes({"$ref": f"#/components/schemas/{union}"}, union):
        for told in DOCUMENT.shapes(shape.schema.get("properties", {}).get("type", {}), ""):
            found.update(told.schema.get("enum", []))
    assert set(known) <= found
    return sorted(found - set(known))


def refused(server: ApiServer, path: str, body: dict[str, Any]) -> dict[str, Any]:
    with server.http() as http:
        answer = http.post(f"/v1{path}", json={"model": TUNED, **body})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert not server.engine.generations
    return answer.json()["error"]


RESPONSE_TOOLS = kinds("Tool", "function")
RESPONSE_ITEMS = kinds("InputItem", "message", "function_call", "function_call_output", "item_reference")
TOOL_CHOICES = kinds("ToolChoiceParam", "allowed_tools")


@pytest.mark.parametrize("path", ["/responses", "/responses/input_tokens"])
@pytest.mark.parametrize("kind", RESPONSE_TOOLS)
def test_other_tools_than_functions_are_refused(server: ApiServer, path: str, kind: str) -> None:
    error = refused(server, path, {"input": "hi", "tools": [{"type": kind}]})
    assert (error["code"], error["param"]) == ("unsupported_value", "tools[0].type")


@pytest.mark.parametrize("kind", RESPONSE_ITEMS)
def test_other_items_than_messages_and_calls_are_refused(server: ApiServer, kind: str) -> None:
    error = refused(server, "/responses", {"input": [{"type": kind}]})
    assert (error["code"], error["param"]) == ("unsupported_value", "input[0].type")


@pytest.mark.parametrize("kind", TOOL_CHOICES)
def test_a_choice_that_forces_a_call_is_refused(server: ApiServer, kind: str) -> None:
    error = refused(server, "/responses", {"input": "hi", "tools": [{"type": "function", **FUNCTION}], "tool_choice": {"type": kind}})
    assert (error["code"], error["param"]) == ("unsupported_value", "tool_choice")


@pytest.mark.parametrize("kind", ["input_image", "input_file"])
def test_parts_that_are_no_text_are_refused(server: ApiServer, kind: str) -> None:
    call = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    items: list[Any] = [{"role": "user", "content": [{"type": kind}]}]
    assert refused(server, "/responses", {"input": items})["param"] == "input[0].content[0].type"
    items = [call, {"type": "function_call_output", "call_id": "call_1", "output": [{"type": kind}]}]
    assert refused(server, "/responses", {"input": items})["param"] == "input[1].output[0].type"


@pytest.mark.parametrize("part", [{"type": "image_url"}, {"type": "input_audio"}, {"type": "file"}])
def test_parts_of_chat_that_are_no_text_are_refused(server: ApiServer, part: dict[str, Any]) -> None:
    error = refused(server, "/chat/completions", {"messages": [{"role": "user", "content": [part]}]})
    assert (error["code"], error["param"]) == ("unsupported_value", "messages[0].content[0].type")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("conversation", {"id": "conv_1"}),
        ("conversation", "conv_1"),
        ("context_management", [{"type": "compaction"}]),
        ("moderation", {"model": "omni-moderation-latest"}),
        ("prompt", {"id": "pmpt_1"}),
    ],
)
def test_fields_of_responses_that_would_change_the_answer_are_refused(server: ApiServer, field: str, value: object) -> None:
    error = refused(server, "/responses", {"input": "hi", field: value})
    assert (error["code"], error["param"]) == ("unsupported_parameter", field)


def _path(name: str) -> tuple[str, str]:
    method, path = name.split(" ")
    return method, "/v1" + path.replace("{", "").replace("}", "")


@pytest.mark.parametrize("name", [name for rule in load_rules() if rule.how == UNSERVED for name in rule.fields])
def test_paths_that_are_not_served_say_so_in_openais_form(server: ApiServer, name: str) -> None:
    method, path = _path(name)
    with server.http() as http:
        answer = http.request(method, path)
    assert answer.status_code in (404, 405)
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(f"Invalid URL ({method} {path})") or error["code"] == "method_not_supported"
