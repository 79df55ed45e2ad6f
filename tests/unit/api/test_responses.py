"""Responses without HTTP: items as messages, shortened questions, errors after the start."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import orjson
import pytest

from luthier.api.response_form import ResponseForm, ResponseHead
from luthier.api.response_items import MAX_ITEMS, input_items, messages_of
from luthier.api.response_prompts import question_of
from luthier.api.schemas.responses import ResponseRequest
from luthier.core.errors import InvalidRequest, LuthierError, StorageFull, TooManyRequests
from luthier.core.generation import ModelTarget
from tests.support.fake_engine import finished

TARGET = ModelTarget(name="m", base_path="/m")
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "42"}


def body(**fields: Any) -> ResponseRequest:
    return ResponseRequest.model_validate({"model": "m", "input": "x", **fields})


async def keep_nothing(_: dict[str, Any]) -> None:
    pass


async def disk_full(_: dict[str, Any]) -> None:
    raise StorageFull("no room")


def form(save: Any = keep_nothing, **fields: Any) -> ResponseForm:
    head = ResponseHead(id="resp_1", message_id="msg_1", created_at=1, model="m", body=body(**fields), clock=lambda: 2.5)
    return ResponseForm(head, save)


def events_of(one: ResponseForm, source: AsyncGenerator[dict[str, Any], None]) -> list[dict[str, Any]]:
    async def read() -> list[bytes]:
        return [frame async for frame in one.frames(source)]

    return [orjson.loads(frame.partition(b"data: ")[2]) for frame in asyncio.run(read())]


async def failing(error: LuthierError) -> AsyncGenerator[dict[str, Any], None]:
    yield {"type": "response.created"}
    raise error


async def only_the_end() -> AsyncGenerator[Any, None]:
    yield 0, finished()


def test_a_call_without_a_message_before_it_is_an_assistants() -> None:
    messages = messages_of(input_items([{"role": "user", "content": "x"}, CALL, OUTPUT], lambda _: None))
    assert [m["role"] for m in messages] == ["user", "assistant", "tool"]
    assert messages[1]["content"] == ""


def test_new_items_get_ids_and_given_ids_stay() -> None:
    items = input_items([{"role": "user", "content": "x"}, {**CALL, "id": "fc_mine"}, OUTPUT], lambda _: None)
    assert items[0]["id"].startswith("msg_")
    assert items[1]["id"] == "fc_mine"
    assert items[2]["id"].startswith("fc_")


def test_an_earlier_refusal_is_content() -> None:
    items = input_items([{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}], lambda _: None)
    assert messages_of(items) == [{"role": "assistant", "content": "no"}]


def test_the_number_of_items_is_bounded() -> None:
    with pytest.raises(InvalidRequest, match="array too long") as error:
        input_items([{"role": "user", "content": "x"}] * (MAX_ITEMS + 1), lambda _: None)
    assert error.value.code == "array_above_max_length"


def test_a_shortened_question_keeps_instructions_and_no_output_without_its_call() -> None:
    items = input_items([{"role": "user", "content": "x"}, CALL, OUTPUT, {"role": "user", "content": "y"}], lambda _: None)
    question = question_of(body(instructions="i"), TARGET, items)
    assert [m["role"] for m in question.request().messages or ()] == ["system", "user", "assistant", "tool", "user"]
    assert [m["content"] for m in question.request(2).messages or ()] == ["i", "y"]
    only_output = question_of(body(), TARGET, items[:3])
    assert [m["role"] for m in only_output.request(2).messages or ()] == ["tool"]


def test_empty_instructions_are_none() -> None:
    items = input_items("x", lambda _: None)
    assert question_of(body(instructions=""), TARGET, items).request().messages == ({"role": "user", "content": "x"},)


@pytest.mark.parametrize(
    ("error", "code", "failure"),
    [
        (TooManyRequests("busy", code="rate_limit_exceeded"), "rate_limit_exceeded", "rate_limit_exceeded"),
        (InvalidRequest("bad", code="x", param="input"), "x", "invalid_prompt"),
        (LuthierError("boom at a path"), "server_error", "server_error"),
    ],
)
def test_an_error_after_the_start(error: LuthierError, code: str, failure: str) -> None:
    events = events_of(form(), failing(error))
    assert [e["type"] for e in events] == ["response.created", "error", "response.failed"]
    assert [e["sequence_number"] for e in events] == [0, 1, 2]
    assert (events[1]["code"], events[1]["param"]) == (code, error.param)
    assert (events[2]["response"]["status"], events[2]["response"]["error"]["code"]) == ("failed", failure)
    assert "path" not in events[1]["message"]


def test_what_could_not_be_kept_is_not_completed() -> None:
    one = form(disk_full)
    events = events_of(one, one.streamed(only_the_end()))
    assert [e["type"] for e in events[-2:]] == ["error", "response.failed"]
    assert "response.completed" not in [e["type"] for e in events]
    with pytest.raises(StorageFull):
        asyncio.run(form(disk_full).whole(only_the_end()))


def test_an_empty_answer_is_complete() -> None:
    response = asyncio.run(form().whole(only_the_end()))
    assert (response["status"], response["completed_at"], response["output"][0]["content"][0]["text"]) == ("completed", 2, "")
