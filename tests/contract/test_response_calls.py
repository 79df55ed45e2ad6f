"""Function calls in responses: whole, streamed, answered on the next turn."""

import json
from typing import Any

import openai
import pytest

from luthier.core.engine_messages import Finished, Generate, Started, TokenChunk
from luthier.core.generation import FinishReason
from tests.contract.test_responses import ask, asked
from tests.contract.test_tool_calls import LIGHT, TIMER, calling
from tests.support.api_server import TUNED, ApiServer
from tests.support.fake_engine import saying, token

TOOLS: list[Any] = [
    {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}, "strict": False}
    for name in ("set_timer", "turn_on")
]
CALL_EVENTS = [
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
]
MESSAGE_EVENTS = [
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
]
START = ["response.created", "response.in_progress"]


def call(client: openai.OpenAI, **fields: Any) -> Any:
    return ask(client, **{"input": "The rice needs 33 minutes", "tools": TOOLS, **fields})


def test_calls_are_items(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = calling(TIMER, LIGHT)
    answer = call(client)
    assert (answer.status, answer.output_text) == ("completed", "")
    assert [(i.type, i.status, i.name, i.arguments) for i in answer.output] == [
        ("function_call", "completed", "set_timer", TIMER.arguments),
        ("function_call", "completed", "turn_on", LIGHT.arguments),
    ]
    assert all(i.id.startswith("fc_") and i.call_id.startswith("call_") for i in answer.output)
    assert len({i.id for i in answer.output} | {i.call_id for i in answer.output}) == 4
    assert answer.usage.output_tokens == 9


def test_text_before_a_call_is_a_message(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = calling(TIMER, text="Of course.")
    answer = call(client)
    assert [i.type for i in answer.output] == ["message", "function_call"]
    assert answer.output_text == "Of course."


def test_one_call_when_several_at_once_are_not_wanted(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = calling(TIMER, LIGHT)
    assert [i.name for i in call(client, parallel_tool_calls=False).output] == ["set_timer"]


def test_an_answer_cut_off_after_a_call_is_incomplete(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = calling(TIMER, reason=FinishReason.LENGTH)
    answer = call(client)
    assert (answer.status, answer.incomplete_details.reason, answer.output[0].status) == ("incomplete", "max_output_tokens", "completed")


def test_streamed_calls(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = calling(TIMER, LIGHT)
    events = list(call(client, stream=True))
    assert [e.type for e in events] == [*START, *CALL_EVENTS, *CALL_EVENTS, "response.completed"]
    assert [e.sequence_number for e in events] == list(range(len(events)))
    final = events[-1].response
    for index, item in enumerate(final.output):
        added, delta, done, end = events[2 + 4 * index : 6 + 4 * index]
        assert {e.output_index for e in (added, delta, done, end)} == {index}
        assert {delta.item_id, done.item_id, added.item.id} == {item.id}
        assert (added.item.status, added.item.arguments, added.item.call_id) == ("in_progress", "", item.call_id)
        assert (delta.delta, done.arguments) == (item.arguments, item.arguments)
        assert end.item == item
    assert final.model_dump() == client.responses.retrieve(final.id).model_dump()


def test_streamed_text_before_a_call(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = calling(TIMER, text="Of course.")
    events = list(call(client, stream=True))
    assert [e.type for e in events] == [*START, *MESSAGE_EVENTS, *CALL_EVENTS, "response.completed"]
    assert events[-2].output_index == 1


def test_the_name_stands_in_the_done_event_and_deltas_are_padded(server: ApiServer) -> None:
    server.engine.generate = calling(TIMER)

    def deltas(**fields: Any) -> list[dict[str, Any]]:
        body = {"model": TUNED, "input": "x", "tools": TOOLS, "stream": True, **fields}
        with server.http() as http:
            text = http.post("/v1/responses", json=body).text
        events = [json.loads(block.partition("data: ")[2]) for block in text.split("\n\n")[:-1]]
        assert next(e["name"] for e in events if e["type"].endswith("arguments.done")) == "set_timer"
        return [e for e in events if e["type"].endswith("arguments.delta")]

    (padded,) = deltas()
    assert (len(padded["delta"]) + len(padded["obfuscation"])) % 16 == 0
    assert "obfuscation" not in deltas(stream_options={"include_obfuscation": False})[0]


def test_the_clients_stream_helper_puts_calls_together(server: ApiServer) -> None:
    server.engine.generate = calling(TIMER)
    with server.client().responses.stream(model=TUNED, input="x", tools=TOOLS) as stream:
        final = stream.get_final_response()
    (item,) = final.output
    assert item.type == "function_call"
    assert (item.name, item.arguments) == ("set_timer", TIMER.arguments)


@pytest.mark.parametrize("stream", [False, True])
def test_the_next_turn_gives_the_result_back(server: ApiServer, client: openai.OpenAI, stream: bool) -> None:
    server.engine.generate = calling(TIMER, text="Of course.")
    first = list(call(client, stream=True))[-1].response if stream else call(client)
    server.engine.generate = saying("It rings at noon.")
    output = {"type": "function_call_output", "call_id": first.output[1].call_id, "output": "set"}
    second = call(client, input=[output], previous_response_id=first.id)
    assert second.output_text == "It rings at noon."
    called = {"id": first.output[1].call_id, "type": "function", "function": {"name": "set_timer", "arguments": TIMER.arguments}}
    after = (
        {"role": "user", "content": "The rice needs 33 minutes"},
        {"role": "assistant", "content": "Of course.", "tool_calls": [called]},
        {"role": "tool", "content": "set", "tool_call_id": first.output[1].call_id},
    )
    assert asked(server).messages == after
    # The same without the server's memory: the client sends what it was given.
    question = {"role": "user", "content": "The rice needs 33 minutes"}
    call(client, input=[question, *first.output, output], store=False)
    assert asked(server).messages == after


def test_a_result_for_a_call_that_nobody_made_is_refused(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = calling(TIMER)
    first = call(client)
    with pytest.raises(openai.BadRequestError, match="No tool call found"):
        call(client, input=[{"type": "function_call_output", "call_id": "call_other", "output": "x"}], previous_response_id=first.id)


def test_without_tools_nothing_is_read_as_a_call(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = calling(TIMER, text="words")
    for fields in ({"tools": openai.NOT_GIVEN}, {"tool_choice": "none"}):
        answer = call(client, **fields)
        assert ([i.type for i in answer.output], answer.output_text) == (["message"], "words")
        assert not asked(server).parse_tool_calls


def test_only_the_allowed_tools_are_shown(server: ApiServer, client: openai.OpenAI) -> None:
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "turn_on"}]}
    answer = call(client, tool_choice=allowed)
    assert [tool["function"]["name"] for tool in asked(server).tools] == ["turn_on"]
    assert answer.tool_choice.mode == "auto"


def test_tokens_of_a_call_are_not_the_texts(server: ApiServer, client: openai.OpenAI) -> None:
    def script(request: Generate) -> list[Any]:
        end = Finished(
            finish_reason=FinishReason.STOP,
            prompt_tokens=7,
            completion_tokens=4,
            first_token_seconds=0.01,
            total_seconds=0.02,
            tool_calls=(TIMER,),
        )
        marks = [TokenChunk(text="", tokens=(token("<|tool_call|>"),)), TokenChunk(text="", tokens=(token("{"),))]
        return [Started(prompt_tokens=7), TokenChunk(text="So.", tokens=(token("So."),)), *marks, end]

    server.engine.generate = script
    fields: dict[str, Any] = {"include": ["message.output_text.logprobs"]}
    assert [t.token for t in call(client, **fields).output[0].content[0].logprobs] == ["So."]
    deltas = [e for e in call(client, stream=True, **fields) if e.type == "response.output_text.delta"]
    assert [[t.token for t in e.logprobs] for e in deltas] == [["So."]]
