"""``/responses`` with the official client: whole, streamed, over several turns, kept and counted."""

from typing import Any

import openai
import pytest

from luthier.core.engine_messages import Generate, Render
from luthier.core.generation import FinishReason
from tests.support.api_server import TUNED, ApiServer
from tests.support.fake_engine import saying

LOGPROBS: list[Any] = ["message.output_text.logprobs"]
CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
TOOL: Any = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
EVERY_FIELD = {
    "id", "object", "created_at", "status", "background", "completed_at", "error", "incomplete_details", "instructions",
    "max_output_tokens", "max_tool_calls", "model", "output", "parallel_tool_calls", "previous_response_id", "prompt_cache_key",
    "prompt_cache_retention", "reasoning", "safety_identifier", "service_tier", "store", "temperature", "text", "tool_choice",
    "tools", "top_logprobs", "top_p", "truncation", "usage", "user", "metadata",
}  # fmt: skip
EVENTS = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.responses.create(**{"model": TUNED, "input": "hi", **fields})


def asked(server: ApiServer) -> Generate:
    return server.engine.generations[-1]


def test_a_whole_answer(client: openai.OpenAI, server: ApiServer) -> None:
    answer = ask(client)
    assert answer.id.startswith("resp_")
    assert len(answer.id) == len("resp_") + 48
    assert (answer.object, answer.model, answer.status, answer.error, answer.incomplete_details) == (
        "response",
        TUNED,
        "completed",
        None,
        None,
    )
    assert answer.output_text == "Hello world!"
    (message,) = answer.output
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    assert message.content[0].annotations == []
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (7, 4, 11)
    assert answer.completed_at >= answer.created_at
    assert asked(server).messages == ({"role": "user", "content": "hi"},)


def test_the_object_has_every_field(server: ApiServer) -> None:
    with server.http() as http:
        answer = http.post("/v1/responses", json={"model": TUNED, "input": "hi"})
    body = answer.json()
    assert set(body) == EVERY_FIELD
    assert body["usage"]["input_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": 0}
    assert (body["store"], body["truncation"], body["tool_choice"], body["tools"], body["parallel_tool_calls"]) == (
        True,
        "disabled",
        "auto",
        [],
        True,
    )
    assert body["text"] == {"format": {"type": "text"}, "verbosity": "medium"}
    assert body["metadata"] == {}


def test_a_cut_answer_is_incomplete(client: openai.OpenAI, server: ApiServer) -> None:
    server.engine.generate = saying("half", reason=FinishReason.LENGTH)
    answer = ask(client, max_output_tokens=16)
    assert (answer.status, answer.incomplete_details.reason, answer.completed_at) == ("incomplete", "max_output_tokens", None)
    assert answer.output[0].status == "incomplete"
    assert asked(server).sampling.max_tokens == 16
    assert [e.type for e in ask(client, stream=True)][-1] == "response.incomplete"


def test_a_streamed_answer(client: openai.OpenAI) -> None:
    events = list(ask(client, stream=True))
    assert [e.type for e in events] == EVENTS
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert (events[0].response.status, events[0].response.output, events[0].response.usage) == ("in_progress", [], None)
    deltas = events[4:7]
    assert "".join(e.delta for e in deltas) == events[7].text == events[8].part.text == "Hello world!"
    assert {(e.item_id, e.output_index, e.content_index) for e in deltas} == {(events[2].item.id, 0, 0)}
    assert events[9].item == events[-1].response.output[0]
    assert (events[-1].response.status, events[-1].response.usage.total_tokens) == ("completed", 11)
    assert {e.response.id for e in (events[0], events[1], events[-1])} == {events[-1].response.id}


def test_the_streams_wire_form(server: ApiServer) -> None:
    with server.http() as http:
        answer = http.post("/v1/responses", json={"model": TUNED, "input": "hi", "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = answer.text.split("\n\n")
    assert blocks[-1] == ""
    assert [block.splitlines()[0] for block in blocks[:-1]] == [f"event: {name}" for name in EVENTS]
    assert "[DONE]" not in answer.text


def test_deltas_are_padded_unless_that_is_declined(server: ApiServer) -> None:
    events = [e for e in ask(server.client(), stream=True) if e.type == "response.output_text.delta"]
    assert all((len(e.delta) + len(e.obfuscation)) % 16 == 0 for e in events)
    plain = ask(server.client(), stream=True, stream_options={"include_obfuscation": False})
    assert [hasattr(e, "obfuscation") for e in plain if e.type == "response.output_text.delta"] == [False] * 3


def test_the_clients_stream_helper(client: openai.OpenAI) -> None:
    with client.responses.stream(model=TUNED, input="hi") as stream:
        snapshots = [e.snapshot for e in stream if e.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert snapshots == ["Hello", "Hello world", "Hello world!"]
    assert final.output_text == "Hello world!"


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_come_when_asked_for(client: openai.OpenAI, stream: bool) -> None:
    if stream:
        events = list(ask(client, stream=True, include=LOGPROBS, top_logprobs=2))
        tokens = [t for e in events if e.type == "response.output_text.delta" for t in e.logprobs]
        assert [t.token for t in events[-1].response.output[0].content[0].logprobs] == ["Hello", " world", "!"]
    else:
        tokens = ask(client, include=LOGPROBS, top_logprobs=2).output[0].content[0].logprobs
    assert [(t.token, t.logprob) for t in tokens] == [("Hello", -0.5), (" world", -0.5), ("!", -0.5)]
    assert [t.token for t in tokens[0].top_logprobs] == ["Hello", "alt1"]


def test_parameters_reach_the_engine(server: ApiServer) -> None:
    ask(server.client(), temperature=0, top_p=0.5, max_output_tokens=20, instructions="be kind", tools=[TOOL])
    request = asked(server)
    assert (request.sampling.temperature, request.sampling.top_p, request.sampling.max_tokens, request.sampling.top_logprobs) == (
        0,
        0.5,
        20,
        None,
    )
    assert request.messages == ({"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"})
    assert request.tools == ({"type": "function", "function": {"name": "f", "parameters": TOOL["parameters"]}},)
    answer = ask(server.client(_strict_response_validation=True), tools=[TOOL], tool_choice="none")
    assert asked(server).tools == ()
    assert (answer.tool_choice, answer.tools[0].strict) == ("none", True)


def test_items_become_messages(server: ApiServer) -> None:
    items: list[Any] = [
        {"role": "developer", "content": "be kind"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "c", "annotations": []}]},
        CALL,
        {**CALL, "call_id": "call_2"},
        OUTPUT,
        {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "43"}]},
    ]
    ask(server.client(), input=items)
    calls = [{"id": i, "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in ("call_1", "call_2")]
    assert asked(server).messages == (
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "c", "tool_calls": calls},
        {"role": "tool", "content": "42", "tool_call_id": "call_1"},
        {"role": "tool", "content": "43", "tool_call_id": "call_2"},
    )


def test_three_turns(client: openai.OpenAI, server: ApiServer) -> None:
    first = ask(client, input="one", instructions="be kind")
    second = ask(client, input="two", previous_response_id=first.id)
    assert (second.previous_response_id, second.instructions) == (first.id, None)
    third = list(ask(client, input="three", previous_response_id=second.id, instructions="be short", stream=True))[-1].response
    answer = {"role": "assistant", "content": "Hello world!"}
    earlier = ({"role": "user", "content": "one"}, answer, {"role": "user", "content": "two"}, answer)
    assert asked(server).messages == ({"role": "system", "content": "be short"}, *earlier, {"role": "user", "content": "three"})
    client.responses.delete(second.id)
    ask(client, input=[], previous_response_id=third.id)
    assert asked(server).messages == (*earlier, {"role": "user", "content": "three"}, answer)


def test_outputs_may_be_sent_back_as_input(client: openai.OpenAI, server: ApiServer) -> None:
    first = ask(client)
    ask(client, input=[{"role": "user", "content": "hi"}, *first.output, {"role": "user", "content": "more"}])
    assert [m["content"] for m in asked(server).messages or ()] == ["hi", "Hello world!", "more"]


def test_items_are_found_by_reference(client: openai.OpenAI, server: ApiServer) -> None:
    first = ask(client)
    ask(client, input=[{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "more"}])
    assert [m["role"] for m in asked(server).messages or ()] == ["assistant", "user"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_is_kept_until_it_is_deleted(client: openai.OpenAI, stream: bool) -> None:
    made = list(ask(client, stream=True, metadata={"a": "b"}))[-1].response if stream else ask(client, metadata={"a": "b"})
    kept = client.responses.retrieve(made.id)
    assert kept.model_dump() == made.model_dump()
    assert kept.metadata == {"a": "b"}
    client.responses.delete(made.id)
    for call in (client.responses.retrieve, client.responses.delete, client.responses.cancel, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError, match=f"Response with id '{made.id}' not found."):
            call(made.id)


def test_the_answer_to_a_deletion(server: ApiServer) -> None:
    made = ask(server.client())
    with server.http() as http:
        answer = http.delete(f"/v1/responses/{made.id}")
    assert answer.json() == {"id": made.id, "object": "response", "deleted": True}


def test_what_is_not_stored_is_not_found(client: openai.OpenAI) -> None:
    made = ask(client, store=False)
    assert made.store is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError) as error:
        ask(client, previous_response_id=made.id)
    assert (error.value.code, error.value.param) == ("previous_response_not_found", "previous_response_id")


def test_input_items_come_in_pages(client: openai.OpenAI) -> None:
    first = ask(client, input=[{"role": "user", "content": "one"}, CALL, OUTPUT])
    second = ask(client, input="two", previous_response_id=first.id)
    kinds = ["message", "function_call", "function_call_output", "message", "message"]
    items = list(client.responses.input_items.list(second.id, order="asc", limit=2))
    assert [item.type for item in items] == kinds
    assert items[3] == first.output[0]
    assert [i.id for i in client.responses.input_items.list(second.id, limit=2)] == [item.id for item in reversed(items)]
    page = client.responses.input_items.list(second.id, limit=2)
    assert (len(page.data), page.has_more) == (2, True)
    with pytest.raises(openai.NotFoundError):
        client.responses.input_items.list(second.id, after="msg_none")


def test_only_background_responses_can_be_cancelled(client: openai.OpenAI) -> None:
    made = ask(client)
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        client.responses.cancel(made.id)


def test_input_tokens_are_counted_over_the_whole_prompt(client: openai.OpenAI, server: ApiServer) -> None:
    assert client.responses.input_tokens.count(model=TUNED, input="one two three").input_tokens == 3
    first = ask(client, input="one two")
    count = client.responses.input_tokens.count(
        model=TUNED, input="six", previous_response_id=first.id, instructions="be kind", tools=[TOOL]
    )
    assert (count.object, count.input_tokens) == ("response.input_tokens", 2 + 2 + 2 + 1)
    render = server.engine.requests[-1]
    assert isinstance(render, Render)
    assert render.tools[0]["function"]["name"] == "f"


def test_fields_that_cannot_change_the_text_are_accepted(client: openai.OpenAI) -> None:
    harmless: dict[str, Any] = {
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "service_tier": "flex",
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "parallel_tool_calls": False,
        "max_tool_calls": 3,
        "include": ["reasoning.encrypted_content"],
        "background": False,
        "truncation": "auto",
        "tool_choice": "auto",
        "metadata": {"a": "b"},
        "image": {"context_compression": "auto"},
        "background_options": {"completion_window": "soonest"},
    }
    answer = ask(client, **harmless)
    assert answer.output_text == "Hello world!"
    assert (answer.user, answer.reasoning.effort, answer.text.verbosity, answer.parallel_tool_calls) == ("u", "low", "low", False)
