"""Stored chat completions and the training files made of them, through the official client."""

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from luthier.core.engine_messages import Failed, Started, TokenChunk
from luthier.core.errors import LuthierError
from luthier.core.examples import LineError, RowFormat, SourceLine
from luthier.core.generation import FinishReason
from luthier.data.validate import check_row, parse_row
from tests.support.api_server import TUNED, ApiServer
from tests.support.fake_engine import BASE, saying

HI: list[Any] = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": [{"type": "text", "text": "hi "}, {"type": "text", "text": "you"}]},
]
TOOL: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
RESCUE = "/v1/luthier/files/from_completions"


@pytest.fixture(autouse=True)
def _none_are_stored(server: ApiServer) -> Iterator[None]:
    yield
    for record in server.services.stored_completions.list(limit=1000).items:
        server.services.stored_completions.delete(record.id)


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(**{"model": TUNED, "messages": HI, "store": True, **fields})


def rescued(server: ApiServer, **body: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The File object and the file's rows."""
    with server.http() as http:
        answer = http.post(RESCUE, json=body)
        assert answer.status_code == 200, answer.text
        content = http.get(f"/v1/files/{answer.json()['id']}/content").content
    return answer.json(), [json.loads(line) for line in content.splitlines()]


def test_a_stored_answer_comes_back(client: openai.OpenAI) -> None:
    answer = ask(client, metadata={"task": "greet"}, temperature=0.5, user="ann")
    assert answer.metadata == {"task": "greet"}
    stored = client.chat.completions.retrieve(answer.id)
    assert stored.model_dump(include=set(answer.model_dump())) == answer.model_dump()
    extra = stored.model_dump()
    assert (extra["temperature"], extra["top_p"], extra["input_user"], extra["request_id"]) == (0.5, 1.0, "ann", answer._request_id)
    assert [c.id for c in client.chat.completions.list()] == [answer.id]


def test_a_streamed_answer_is_stored_when_it_is_complete(server: ApiServer, client: openai.OpenAI) -> None:
    chunks = list(ask(client, stream=True, metadata={"a": "b"}))
    stored = client.chat.completions.retrieve(chunks[0].id)
    assert (stored.choices[0].message.content, stored.choices[0].finish_reason) == ("Hello world!", "stop")
    assert (stored.metadata, stored.usage.total_tokens if stored.usage else 0) == ({"a": "b"}, 11)
    server.engine.generate = lambda _: [Started(prompt_tokens=1), TokenChunk(text="half"), Failed(kind="Unavailable", message="gone")]
    with pytest.raises(openai.APIError):
        list(ask(client, stream=True))
    assert [c.id for c in client.chat.completions.list()] == [chunks[0].id]


@pytest.mark.parametrize("store", [False, None])
def test_what_was_not_stored_is_not_found(client: openai.OpenAI, store: bool | None) -> None:
    answer = ask(client, store=store)
    calls = (
        lambda: client.chat.completions.retrieve(answer.id),
        lambda: client.chat.completions.update(answer.id, metadata={}),
        lambda: client.chat.completions.delete(answer.id),
        lambda: client.chat.completions.messages.list(answer.id),
    )
    for call in calls:
        with pytest.raises(openai.NotFoundError):
            call()
    assert client.chat.completions.list().data == []


def test_lists_are_filtered_ordered_and_paged(client: openai.OpenAI) -> None:
    ids = [ask(client, metadata={"n": str(i % 2), "all": "yes"}).id for i in range(5)]
    other = ask(client, model="gpt-4o-mini").id
    assert [c.id for c in client.chat.completions.list(limit=2)] == [*ids, other]
    assert [c.id for c in client.chat.completions.list(order="desc", limit=4)] == [other, *reversed(ids)]
    assert [c.id for c in client.chat.completions.list(metadata={"n": "1", "all": "yes"})] == [ids[1], ids[3]]
    assert [c.id for c in client.chat.completions.list(model="gpt-4o-mini")] == [other]
    page = client.chat.completions.list(limit=2, after=ids[1])
    assert ([c.id for c in page.data], page.has_more) == (ids[2:4], True)
    client.chat.completions.delete(ids[1])
    assert [c.id for c in client.chat.completions.list(limit=2, after=ids[1]).data] == ids[2:4]
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.list(after="chatcmpl-nothing")


def test_metadata_is_replaced(client: openai.OpenAI) -> None:
    answer = ask(client, metadata={"a": "1"})
    assert client.chat.completions.update(answer.id, metadata={"b": "2"}).metadata == {"b": "2"}
    assert client.chat.completions.retrieve(answer.id).metadata == {"b": "2"}
    assert client.chat.completions.update(answer.id, metadata=None).metadata == {}
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.update(answer.id, metadata={str(i): "" for i in range(17)})
    assert error.value.param == "metadata"
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.update(answer.id, metadata={}, extra_body={"model": "x"})
    assert error.value.code == "unknown_parameter"


def test_a_deleted_answer_is_gone_with_all_that_was_said(server: ApiServer, client: openai.OpenAI) -> None:
    answer = ask(client)
    deleted = client.chat.completions.delete(answer.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (answer.id, "chat.completion.deleted", True)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(answer.id)
    with sqlite3.connect(server.services.settings.state_database) as database:
        rows = database.execute("SELECT * FROM stored_completions WHERE id = ?", (answer.id,)).fetchall()
    assert len(rows) == 1
    assert "be kind" not in repr(rows)
    assert "Hello" not in repr(rows)


# The SDK's type of a stored message allows for the role "assistant" alone: the strict client takes no list of them.
def test_input_messages_are_listed(server: ApiServer) -> None:
    client = server.client()
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [*HI, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "call_1", "content": "42"}]
    answer = ask(client, messages=messages)
    listed: list[Any] = list(client.chat.completions.messages.list(answer.id, limit=2))
    assert [m.id for m in listed] == [f"{answer.id}-{i}" for i in range(4)]
    assert [(m.role, m.content) for m in listed] == [("system", "be kind"), ("user", "hi you"), ("assistant", None), ("tool", "42")]
    assert [m.content_parts is None for m in listed] == [True, False, True, True]
    assert [part.text for part in listed[1].content_parts] == ["hi ", "you"]
    assert (listed[2].tool_calls[0].function.name, listed[3].tool_call_id) == ("f", "call_1")
    page = client.chat.completions.messages.list(answer.id, order="desc", after=listed[2].id)
    assert ([m.id for m in page.data], page.has_more) == ([listed[1].id, listed[0].id], False)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.messages.list(answer.id, after="nothing")


def test_what_was_captured_trains(server: ApiServer) -> None:
    client = server.client()
    for i in range(10):
        ask(client, metadata={"task": "greet"}, messages=[{"role": "user", "content": f"hi {i}"}])
    ask(client, metadata={"task": "other"})
    shown, rows = rescued(server, metadata={"task": "greet"}, filename="greetings.jsonl")
    file = client.files.retrieve(shown["id"])
    assert (file.purpose, file.filename, file.status, file.bytes) == ("fine-tune", "greetings.jsonl", "processed", shown["bytes"])
    assert shown["luthier"] == {"rows": 10, "left_out": 0}
    assert rows[3] == {"messages": [{"role": "user", "content": "hi 3"}, {"role": "assistant", "content": "Hello world!"}]}
    job = client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    assert (job.status, job.training_file) == ("validating_files", file.id)
    # As the guide shows it, with nothing but the official client.
    again = client.post("/luthier/files/from_completions", body={"metadata": {"task": "other"}}, cast_to=openai.types.FileObject)
    assert (again.purpose, again.filename) == ("fine-tune", "stored-completions.jsonl")


def test_rows_hold_the_whole_talk_and_a_job_takes_every_one(server: ApiServer) -> None:
    client = server.client()
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    old = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    results = [{"role": "tool", "tool_call_id": "call_1", "content": "42"}]
    ask(client, messages=[*HI, {"role": "assistant", "tool_calls": [call]}, *results], tools=[TOOL])
    ask(client, messages=[HI[1], old, {"role": "function", "name": "f", "content": "42"}], n=2)
    # A job would refuse these: a call without its result, an empty turn of the assistant, a result without its call.
    ask(client, messages=[HI[1], {"role": "assistant", "tool_calls": [call]}, HI[1]])
    ask(client, messages=[HI[1], {"role": "assistant", "content": ""}, HI[1]])
    ask(client, messages=[HI[1], *results])
    server.engine.generate = saying("cut", reason=FinishReason.LENGTH)
    ask(client)
    shown, rows = rescued(server)
    assert shown["luthier"] == {"rows": 3, "left_out": 4}
    assert rows[0]["tools"] == [TOOL]
    assert [m.get("weight") for m in rows[0]["messages"]] == [None, None, 0, None, None]
    assert rows[0]["messages"][1] == {"role": "user", "content": "hi you"}
    assert rows[1] == rows[2]
    assert rows[1]["messages"][1]["function_call"] == old["function_call"]
    for number, row in enumerate(rows):
        source = SourceLine(file_id=shown["id"], line=number + 1)
        parsed = parse_row(json.dumps(row).encode(), source)
        assert not isinstance(parsed, LineError)
        assert not isinstance(check_row(parsed, RowFormat.CHAT, source, message_code="x"), LineError)


def test_a_rescue_takes_what_is_asked_for(server: ApiServer) -> None:
    client = server.client()
    ids = [ask(client, messages=[{"role": "user", "content": str(i)}]).id for i in range(4)]
    ask(client, model="gpt-4o-mini", messages=[{"role": "user", "content": "mini"}])

    def asked(**body: Any) -> list[str]:
        return [row["messages"][0]["content"] for row in rescued(server, **body)[1]]

    assert asked(after=ids[0], limit=2) == ["1", "2"]
    assert asked(model=TUNED) == ["0", "1", "2", "3"]
    assert asked(model="gpt-4o-mini") == ["mini"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"metadata": {"no": "such"}}, 400, None),
        ({"model": "gpt-nothing"}, 400, None),
        ({"limit": 0}, 400, "limit"),
        ({"filename": ""}, 400, "filename"),
        ({"foo": 1}, 400, "foo"),
        ({"after": "chatcmpl-nothing"}, 404, "after"),
    ],
)
def test_a_rescue_of_nothing_says_so(server: ApiServer, body: dict[str, Any], status: int, param: str | None) -> None:
    ask(server.client())
    before = len(server.services.files.list().items)
    with server.http() as http:
        answer = http.post(RESCUE, json=body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert param or error["message"].startswith("No stored chat completion matches")
    assert len(server.services.files.list().items) == before


def test_a_rescue_of_cut_answers_says_why(server: ApiServer) -> None:
    server.engine.generate = saying("cut", reason=FinishReason.LENGTH)
    ask(server.client())
    with server.http() as http:
        answer = http.post(RESCUE, json={})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("None of the 1 stored chat completions that match can be trained on")


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_cannot_be_stored_is_an_error(server: ApiServer, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    def refuse(_store: object, _record: object) -> None:
        raise LuthierError("disk")

    monkeypatch.setattr("luthier.storage.stored_completions.StoredCompletionStore.add", refuse)
    with pytest.raises(openai.APIError):
        list(ask(server.client(), stream=stream))
