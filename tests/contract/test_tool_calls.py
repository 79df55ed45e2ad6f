"""Tool calls in answers, whole and streamed, as the official client reads them."""

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from luthier.core.engine_messages import EngineReply, Finished, Generate, Started, TokenChunk
from luthier.core.generation import CalledTool, FinishReason
from tests.support.api_server import TUNED, ApiServer

TIMER = CalledTool(name="set_timer", arguments='{"minutes": 33, "label": "rice"}')
LIGHT = CalledTool(name="turn_on", arguments='{"room": "kitchen"}')
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("set_timer", "turn_on")
]


def calling(*calls: CalledTool, text: str = "", reason: FinishReason = FinishReason.STOP) -> Callable[[Generate], list[EngineReply]]:
    def script(request: Generate) -> list[EngineReply]:
        end = Finished(
            finish_reason=reason,
            prompt_tokens=7,
            completion_tokens=9,
            first_token_seconds=0.01,
            total_seconds=0.02,
            tool_calls=calls if request.parse_tool_calls else (),
        )
        return [Started(prompt_tokens=7), *([TokenChunk(text=text)] if text else []), end]

    return script


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    messages = [{"role": "user", "content": "The rice needs 33 minutes"}]
    return client.chat.completions.create(**{"model": TUNED, "messages": messages, "tools": TOOLS, **fields})


def test_calls_take_the_place_of_the_text(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = calling(TIMER, LIGHT)
    choice = ask(client).choices[0]
    assert (choice.finish_reason, choice.message.content, choice.message.refusal) == ("tool_calls", None, None)
    assert [(c.type, c.function.name, c.function.arguments) for c in choice.message.tool_calls] == [
        ("function", "set_timer", TIMER.arguments),
        ("function", "turn_on", LIGHT.arguments),
    ]
    ids = [c.id for c in choice.message.tool_calls]
    assert all(i.startswith("call_") and len(i) == 29 for i in ids)
    assert len(set(ids)) == 2


def test_text_before_a_call_is_kept(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = calling(TIMER, text="Of course.")
    message = ask(client).choices[0].message
    assert (message.content, message.tool_calls[0].function.name) == ("Of course.", "set_timer")


def test_one_call_when_several_at_once_are_not_wanted(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = calling(TIMER, LIGHT)
    assert [c.function.name for c in ask(client, parallel_tool_calls=False).choices[0].message.tool_calls] == ["set_timer"]


def test_an_answer_cut_off_after_a_call_says_length(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = calling(TIMER, reason=FinishReason.LENGTH)
    assert ask(client).choices[0].finish_reason == "length"


def test_without_tools_nothing_is_read_as_a_call(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = calling(TIMER, text="words")
    for fields in ({"tools": openai.NOT_GIVEN}, {"tool_choice": "none"}):
        choice = ask(client, **fields).choices[0]
        assert (choice.finish_reason, choice.message.content, choice.message.tool_calls) == ("stop", "words", None)


def test_streamed_calls_come_by_index_first_the_name_then_the_arguments(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = calling(TIMER, LIGHT)
    chunks = [c.choices[0] for c in ask(client, stream=True)]
    assert [c.finish_reason for c in chunks] == [None] * 5 + ["tool_calls"]
    deltas = [c.delta.tool_calls[0] for c in chunks if c.delta.tool_calls]
    assert [d.index for d in deltas] == [0, 0, 1, 1]
    assert [(d.type, d.function.name, d.function.arguments) for d in deltas[::2]] == [
        ("function", "set_timer", ""),
        ("function", "turn_on", ""),
    ]
    assert all(d.id.startswith("call_") for d in deltas[::2])
    assert [(d.id, d.function.name) for d in deltas[1::2]] == [(None, None)] * 2
    assert [json.loads(d.function.arguments) for d in deltas[1::2]] == [{"minutes": 33, "label": "rice"}, {"room": "kitchen"}]


def test_the_stream_helper_puts_calls_together(server: ApiServer) -> None:
    server.engine.generate = calling(TIMER)
    with server.client().chat.completions.stream(model=TUNED, messages=[{"role": "user", "content": "x"}], tools=TOOLS) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls is not None
    assert final.choices[0].message.tool_calls[0].function.arguments == TIMER.arguments


@pytest.mark.parametrize("stream", [False, True])
def test_a_stored_answer_names_its_calls_as_the_client_saw_them(server: ApiServer, stream: bool) -> None:
    server.engine.generate = calling(TIMER)
    client = server.client()
    answer = ask(client, store=True, stream=stream)
    if stream:
        chunks = list(answer)
        completion_id, call_id = chunks[0].id, next(c.choices[0].delta.tool_calls[0].id for c in chunks if c.choices[0].delta.tool_calls)
    else:
        completion_id, call_id = answer.id, answer.choices[0].message.tool_calls[0].id
    stored = client.chat.completions.retrieve(completion_id).choices[0]
    assert stored.finish_reason == "tool_calls"
    assert stored.message.tool_calls is not None
    assert stored.message.tool_calls[0].id == call_id
