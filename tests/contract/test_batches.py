"""Batches through the official client: created, run, read, cancelled, and what is wrong with them."""

import asyncio
import json
import threading
import time
from typing import Any

import openai
import pytest
from sqlalchemy import select

from luthier.core.batches import BatchRecord
from luthier.core.engine_messages import Failed
from luthier.core.errors import LuthierError
from luthier.core.ids import new_batch_id
from luthier.core.keys import DEFAULT_PROJECT
from luthier.storage import schema
from tests.support.api_server import TUNED, ApiServer
from tests.support.fake_engine import BASE, saying

CHAT = "/v1/chat/completions"


def request(custom_id: str, url: str = CHAT, **body: Any) -> dict[str, Any]:
    said = {"messages": [{"role": "user", "content": custom_id}]} if url == CHAT else {}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": BASE, **said, **body}}


def jsonl(rows: list[Any]) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def uploaded(client: openai.OpenAI, rows: list[Any]) -> str:
    return client.files.create(file=("requests.jsonl", jsonl(rows)), purpose="batch").id


def created(client: openai.OpenAI, rows: list[Any], endpoint: Any = CHAT, **fields: Any) -> Any:
    return client.batches.create(input_file_id=uploaded(client, rows), endpoint=endpoint, completion_window="24h", **fields)


def ended(client: openai.OpenAI, batch_id: str) -> Any:
    deadline = time.monotonic() + 60
    while (batch := client.batches.retrieve(batch_id)).status not in ("completed", "failed", "expired", "cancelled"):
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
    return batch


def rows_of(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    assert file_id is not None
    rows = [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
    assert len({row["custom_id"] for row in rows}) == len(rows)
    return {row["custom_id"]: row for row in rows}


def test_a_batch_answers_every_request_once(client: openai.OpenAI) -> None:
    asked = [request(f"r{i}") for i in range(150)]
    batch = created(client, asked, metadata={"night": "1"}, output_expires_after={"anchor": "created_at", "seconds": 7200})
    assert (batch.status, batch.completion_window, batch.errors, batch.metadata) == ("validating", "24h", None, {"night": "1"})
    assert batch.expires_at is not None
    assert batch.expires_at - batch.created_at == 24 * 3600
    batch = ended(client, batch.id)
    assert (batch.status, batch.model, batch.error_file_id) == ("completed", BASE, None)
    assert batch.request_counts.model_dump() == {"total": 150, "completed": 150, "failed": 0}
    assert (batch.usage.input_tokens, batch.usage.output_tokens, batch.usage.total_tokens) == (150 * 7, 150 * 4, 150 * 11)
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    rows = rows_of(client, batch.output_file_id)
    assert set(rows) == {row["custom_id"] for row in asked}
    row = rows["r7"]
    assert row["id"].startswith("batch_req_")
    assert row["error"] is None
    assert (row["response"]["status_code"], row["response"]["request_id"][:4]) == (200, "req_")
    answer = row["response"]["body"]
    assert (answer["object"], answer["choices"][0]["message"]["content"]) == ("chat.completion", "Hello world!")
    file = client.files.retrieve(batch.output_file_id)
    assert (file.purpose, file.filename, file.expires_at) == ("batch_output", f"{batch.id}_output.jsonl", file.created_at + 7200)
    assert next(iter(client.batches.list(limit=1))).id == batch.id


@pytest.mark.parametrize(
    ("endpoint", "body", "kind"),
    [("/v1/completions", {"prompt": "a b"}, "text_completion"), ("/v1/responses", {"input": "hi"}, "response")],
)
def test_other_endpoints_answer_in_their_own_shape(client: openai.OpenAI, endpoint: str, body: dict[str, Any], kind: str) -> None:
    batch = ended(client, created(client, [request("one", endpoint, **body)], endpoint).id)
    assert rows_of(client, batch.output_file_id)["one"]["response"]["body"]["object"] == kind
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (7, 4)


def test_requests_that_fail_stand_in_the_error_file_as_the_route_refuses_them(server: ApiServer, client: openai.OpenAI) -> None:
    rows = [request("good"), request("hot", temperature=3), request("flow", stream=True), request("odd", nonsense=1)]
    batch = ended(client, created(client, rows).id)
    assert batch.status == "completed"
    assert batch.request_counts.model_dump() == {"total": 4, "completed": 1, "failed": 3}
    assert set(rows_of(client, batch.output_file_id)) == {"good"}
    wrong = rows_of(client, batch.error_file_id)
    assert {name: row["response"]["status_code"] for name, row in wrong.items()} == {"hot": 400, "flow": 400, "odd": 400}
    with server.http() as http:
        alone = http.post(CHAT, json=rows[1]["body"])
    assert wrong["hot"]["response"]["body"] == alone.json()
    assert wrong["odd"]["response"]["body"]["error"]["code"] == "unknown_parameter"


def test_an_unknown_model_fails_each_request(client: openai.OpenAI) -> None:
    batch = ended(client, created(client, [request("a", model="nobody"), request("b", model="nobody")]).id)
    assert (batch.status, batch.output_file_id, batch.request_counts.failed) == ("completed", None, 2)
    assert rows_of(client, batch.error_file_id)["a"]["response"]["body"]["error"]["code"] == "model_not_found"


def test_a_request_that_finds_the_engine_full_is_tried_again(server: ApiServer, client: openai.OpenAI) -> None:
    refusals = [Failed(kind="TooManyRequests", message="full", code="rate_limit_exceeded")]

    def script(generation: Any) -> Any:
        return [refusals.pop()] if refusals else saying("done")(generation)

    server.engine.generate = script
    batch = ended(client, created(client, [request("only")]).id)
    assert batch.request_counts.completed == 1
    assert not refusals


def test_a_fault_of_the_engine_is_that_requests_answer(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = lambda generation: [Failed(kind=LuthierError.__name__, message="broken")]
    batch = ended(client, created(client, [request("only")]).id)
    assert rows_of(client, batch.error_file_id)["only"]["response"]["status_code"] == 500


def test_every_fault_of_a_file_is_told_with_its_line(client: openai.OpenAI) -> None:
    rows: list[Any] = [
        request("a"),
        b"{no",
        request("a"),
        request("c", model=TUNED),
        {**request("d"), "url": "/v1/completions"},
        {**request("e"), "method": "GET"},
        b"[]",
        {"custom_id": "f", "method": "POST", "url": CHAT},
        {**request("g"), "body": {"messages": []}},
        {**request("h"), "custom_id": 5},
    ]
    batch = ended(client, created(client, rows).id)
    assert (batch.status, batch.output_file_id, batch.failed_at is not None) == ("failed", None, True)
    assert [(e.line, e.code, e.param) for e in batch.errors.data] == [
        (2, "invalid_json_line", None),
        (3, "duplicate_custom_id", "custom_id"),
        (4, "mismatched_model", "body.model"),
        (5, "mismatched_url", "url"),
        (6, "invalid_method", "method"),
        (7, "invalid_json_line", None),
        (8, "missing_required_parameter", "body"),
        (9, "missing_required_parameter", "body.model"),
        (10, "invalid_custom_id", "custom_id"),
    ]
    empty = ended(client, created(client, [b""]).id)
    assert (empty.status, empty.errors.data[0].code) == ("failed", "empty_file")


def test_cancelling_keeps_what_was_answered(server: ApiServer, client: openai.OpenAI) -> None:
    told: list[str] = []
    released = threading.Event()

    async def until_released() -> None:
        while not released.is_set():
            await asyncio.sleep(0.01)

    def script(generation: Any) -> Any:
        told.append(generation.messages[0]["content"])
        answer = saying("done")(generation)
        return answer if len(told) <= 3 else [until_released, *answer]

    server.engine.generate = script
    batch = created(client, [request(f"r{i}") for i in range(40)])
    deadline = time.monotonic() + 60
    while len(told) < 7 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert client.batches.retrieve(batch.id).status == "in_progress"
    assert client.batches.cancel(batch.id).status == "cancelling"
    assert client.batches.cancel(batch.id).status == "cancelling"
    released.set()
    batch = ended(client, batch.id)
    assert batch.status == "cancelled"
    assert batch.cancelling_at <= batch.cancelled_at
    rows = rows_of(client, batch.output_file_id)
    assert 3 <= len(rows) == batch.request_counts.completed < 40
    assert set(told) == set(rows)
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.cancel(ended(client, created(client, [request("x")]).id).id)
    assert refused.value.body["message"] == "Cannot cancel a batch with status 'completed'."  # type: ignore[index]


def test_a_batch_needs_no_input_file_once_it_is_created(server: ApiServer, client: openai.OpenAI) -> None:
    batch = created(client, [request("one")])
    client.files.delete(batch.input_file_id)
    assert ended(client, batch.id).status == "completed"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"endpoint": "/v1/embeddings"}, "unsupported_value", "endpoint"),
        ({"endpoint": "/v1/nonsense"}, "invalid_value", "endpoint"),
        ({"completion_window": "1h"}, "invalid_value", "completion_window"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "integer_below_min_value", "output_expires_after.seconds"),
        ({"extra_body": {"nonsense": 1}}, "unknown_parameter", "nonsense"),
    ],
)
def test_a_wrong_create_is_refused_and_nothing_is_stored(client: openai.OpenAI, fields: dict[str, Any], code: str, param: str) -> None:
    file_id = uploaded(client, [request("one")])
    before = [b.id for b in client.batches.list()]
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.create(**{"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h", **fields})
    assert (refused.value.code, refused.value.param) == (code, param)
    assert [b.id for b in client.batches.list()] == before


def test_only_files_for_batches_are_taken(client: openai.OpenAI, training_file: str) -> None:
    with pytest.raises(openai.BadRequestError, match="must have the purpose 'batch'"):
        client.batches.create(input_file_id=training_file, endpoint=CHAT, completion_window="24h")
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        client.batches.create(input_file_id="file-none", endpoint=CHAT, completion_window="24h")
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")
    with pytest.raises(openai.NotFoundError):
        client.batches.cancel("batch_none")
    with pytest.raises(openai.NotFoundError):
        client.batches.list(after="batch_none")


def test_lists_page(client: openai.OpenAI) -> None:
    ids = [created(client, [request("one")]).id for _ in range(3)]
    for batch_id in ids:
        ended(client, batch_id)
    assert [b.id for b in client.batches.list(limit=1)][:3] == ids[::-1]
    page = client.batches.list(limit=2, after=ids[2])
    assert [b.id for b in page.data] == [ids[1], ids[0]]


def test_the_end_of_a_batch_is_told_to_webhooks(server: ApiServer, client: openai.OpenAI) -> None:
    types = ("batch.completed", "batch.failed", "batch.cancelled", "batch.expired")
    endpoint = server.client().post(
        "/webhook_endpoints", body={"name": "b", "url": "https://example.com/hook", "event_types": list(types)}, cast_to=object
    )
    try:
        batch = ended(client, created(client, [b"{"]).id)
        with server.services.database.read() as connection:
            owed = connection.execute(select(schema.webhook_deliveries.c.event_type, schema.webhook_deliveries.c.object_id)).all()
        assert ("batch.failed", batch.id) in [tuple(row) for row in owed]
    finally:
        server.services.webhooks.delete(endpoint["id"])  # type: ignore[index]


def test_what_is_not_answered_in_time_is_told_so(server: ApiServer, client: openai.OpenAI) -> None:
    # As a server finds a batch that it was stopped in, a day later.
    file = server.services.files.get(uploaded(client, [request("a"), request("b")]))
    assert file is not None
    day_ago = int(server.services.clock()) - 24 * 3600
    record = BatchRecord(
        id=new_batch_id(),
        project_id=DEFAULT_PROJECT,
        endpoint=CHAT,
        input_file_id=file.id,
        input_sha256=file.sha256,
        created_at=day_ago,
        expires_at=day_ago + 24 * 3600,
    )
    server.services.batches.add(record)
    batch = ended(client, record.id)
    assert (batch.status, batch.output_file_id, batch.request_counts.failed) == ("expired", None, 2)
    assert batch.expired_at >= batch.expires_at
    rows = rows_of(client, batch.error_file_id)
    assert {name: (row["response"], row["error"]["code"]) for name, row in rows.items()} == {
        "a": (None, "batch_expired"),
        "b": (None, "batch_expired"),
    }
