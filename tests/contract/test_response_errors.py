"""``/responses``: what is refused, prompts that are too long, engines that fail, clients that leave."""

from typing import Any

import openai
import pytest

from luthier.core.engine_messages import Failed, Generate, Started, TokenChunk
from luthier.core.generation import FinishReason
from tests.contract.test_responses import OUTPUT, TOOL, ask, asked
from tests.support.api_server import TUNED, ApiServer
from tests.support.fake_engine import HANG, HANG_UP, finished, saying

IMAGE = [{"role": "user", "content": [{"type": "input_image", "image_url": "https://example.org/x.png"}]}]


def allowed(mode: str, name: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "mode": mode, "tools": [{"type": "function", "name": name}]}


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"background": True}, "unsupported_value", "background"),
        ({"conversation": "conv_1"}, "unsupported_parameter", "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "unsupported_parameter", "prompt"),
        ({"text": {"format": {"type": "json_object"}}}, "unsupported_value", "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}}, "unsupported_value", "text.format.type"),
        ({"tools": [{"type": "web_search"}]}, "unsupported_value", "tools[0].type"),
        ({"tools": [TOOL], "tool_choice": "required"}, "unsupported_value", "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "f"}}, "unsupported_value", "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "tools": []}}, "invalid_value", "tool_choice"),
        ({"tools": [TOOL], "tool_choice": allowed("required", "f")}, "unsupported_value", "tool_choice.mode"),
        ({"tools": [TOOL], "tool_choice": allowed("auto", "g")}, "invalid_value", "tool_choice"),
        ({"tool_choice": allowed("auto", "f")}, "invalid_value", "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "maybe"}, "invalid_value", "tool_choice"),
        ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].name"),
        ({"input": IMAGE}, "unsupported_value", "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "output_text", "text": "x"}]}]}, "invalid_value", "input[0].content[0].type"),
        ({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, "unsupported_value", "input[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_none"}]}, None, "input"),
        ({"input": [OUTPUT]}, None, "input"),
        ({"input": [{"id": "msg_1", "role": "user", "content": "x"}] * 2}, None, "input"),
        ({"input": [{"role": "robot", "content": "x"}]}, "invalid_value", "input[0].role"),
        ({"input": [{"role": "user"}]}, "missing_required_parameter", "input[0].content"),
        ({"input": [{"role": "user", "content": None}]}, "invalid_type", "input[0].content"),
        ({"input": ["x"]}, "invalid_type", "input[0]"),
        ({"input": 1}, "invalid_type", "input"),
        ({"input": None}, "missing_required_parameter", "input"),
        ({"input": []}, "missing_required_parameter", "input"),
        ({"max_output_tokens": 15}, "integer_below_min_value", "max_output_tokens"),
        ({"temperature": 2.1}, "decimal_above_max_value", "temperature"),
        ({"top_logprobs": 21}, "integer_above_max_value", "top_logprobs"),
        ({"include": ["everything"]}, "invalid_value", "include[0]"),
        ({"truncation": "some"}, "invalid_value", "truncation"),
        ({"stream_options": {"include_obfuscation": True}}, "invalid_parameter_combination", "stream_options"),
        ({"metadata": {"k" * 65: "v"}}, "string_above_max_length", "metadata"),
        ({"messages": []}, "unknown_parameter", "messages"),
        ({"text": {"foo": 1}}, "unknown_parameter", "text.foo"),
    ],
)
def test_what_is_not_offered_or_wrong_is_400(server: ApiServer, fields: dict[str, Any], code: str | None, param: str) -> None:
    with server.http() as http:
        answer = http.post("/v1/responses", json={"model": TUNED, "input": "hi", **fields})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"], error["type"]) == (code, param, "invalid_request_error")
    assert not server.engine.generations


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_not_found(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        ask(client, model="gpt-nothing", stream=stream)
    assert error.value.code == "model_not_found"


def too_long(request: Generate) -> list[Any]:
    """An engine that reads at most three messages."""
    if len(request.messages or ()) > 3:
        return [Failed(kind="InvalidRequest", message="3 messages, not more", code="context_length_exceeded", param="messages")]
    return saying("ok")(request)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long(server: ApiServer, client: openai.OpenAI, stream: bool) -> None:
    server.engine.generate = too_long
    turns: list[Any] = [{"role": "user", "content": str(i)} for i in range(9)]
    with pytest.raises(openai.BadRequestError, match="exceeds the context window") as error:
        ask(client, input=turns, stream=stream)
    assert (error.value.code, error.value.param) == ("context_length_exceeded", "input")
    ask(client, input=turns, stream=stream, truncation="auto", instructions="be kind")
    assert [m["content"] for m in asked(server).messages or ()] == ["be kind", "7", "8"]


@pytest.mark.parametrize("num_turns", range(3, 12))
def test_truncation_drops_no_turn_too_many(server: ApiServer, num_turns: int) -> None:
    server.engine.generate = too_long
    turns = [{"role": "user", "content": str(i)} for i in range(num_turns)]
    ask(server.client(), input=turns, truncation="auto")
    assert [m["content"] for m in asked(server).messages or ()] == [str(i) for i in range(num_turns)][-3:]


def test_truncation_cannot_save_everything(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = lambda _: [Failed(kind="InvalidRequest", message="no", code="context_length_exceeded", param="messages")]
    for text in ("x", [{"role": "user", "content": "x"}] * 3):
        with pytest.raises(openai.BadRequestError, match="exceeds the context window"):
            ask(client, input=text, truncation="auto")


@pytest.mark.parametrize("stream", [False, True])
def test_a_dead_engine_is_503(server: ApiServer, client: openai.OpenAI, stream: bool) -> None:
    server.engine.generate = lambda _: [HANG_UP]
    with pytest.raises(openai.InternalServerError) as error:
        ask(client, stream=stream)
    assert error.value.status_code == 503


@pytest.mark.parametrize("ending", [HANG_UP, finished(reason=FinishReason.ABORTED), TokenChunk(text="\ud800")])
def test_an_error_in_the_middle_of_a_stream_is_an_event(server: ApiServer, client: openai.OpenAI, ending: object) -> None:
    server.engine.generate = lambda _: [Started(prompt_tokens=1), TokenChunk(text="half"), ending]
    events = list(ask(client, stream=True))
    assert [e.type for e in events[-3:]] == ["response.output_text.delta", "error", "response.failed"]
    assert [e.sequence_number for e in events] == list(range(len(events)))
    failed = events[-1].response
    assert (failed.status, failed.error.code, failed.output) == ("failed", "server_error", [])
    assert events[-2].message == failed.error.message
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(failed.id)


def test_a_client_that_leaves_ends_the_generation(server: ApiServer) -> None:
    server.engine.generate = lambda _: [Started(prompt_tokens=1), TokenChunk(text="half"), HANG]
    stream = ask(server.client(), stream=True)
    assert next(iter(stream)).type == "response.created"
    stream.close()
    assert server.engine.aborted.acquire(timeout=60)
