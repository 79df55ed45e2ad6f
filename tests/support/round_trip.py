"""Every method of the official client that is served here, called once, with the sync and with the async client.

What it does: one script for both moods of the client, which notes the methods that it called. What it does not: check
fields in depth (the other contract tests do), or know where the server is. Called by tests/contract/test_every_method.py.
"""

import asyncio
import base64
import inspect
import json
import time
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import openai
import pytest

from tests.support.finished_job import RESULT_CSV
from tests.support.webhook_receiver import Receiver

BASE_NAME = "gpt-4o-mini-2024-07-18"
HI: Any = [{"role": "user", "content": "hi"}]
ROW = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
ROWS = b"".join(json.dumps(ROW).encode() + b"\n" for _ in range(10))
SAID = "Hello world!"

# The parts of the client that this surface covers.
RESOURCES = (
    "files",
    "uploads",
    "uploads.parts",
    "fine_tuning.jobs",
    "fine_tuning.jobs.checkpoints",
    "fine_tuning.checkpoints.permissions",
    "models",
    "chat.completions",
    "chat.completions.messages",
    "completions",
    "responses",
    "responses.input_items",
    "responses.input_tokens",
    "batches",
    "webhooks",
    "webhooks.event_types",
)
# Methods of those parts that nothing here answers, each with the reason.
EXCUSED = {
    "responses.compact": "conversations are not compacted here",
    "responses.connect": "a WebSocket; answers are streamed over HTTP",
}
# Where OpenAI's own answers go beyond its schema: a stored message may be the user's, and a streamed completion has no finish
# reason until its last chunk.
BEYOND_THE_SCHEMA = ("chat.completions.messages.", "completions.create(stream)")
# Decision D1 of the reference: a healthy job's ``error`` is no null, unless the server is told to keep to the schema.
BEYOND_THE_SCHEMA_AS_DELIVERED = ("fine_tuning.jobs.create", "fine_tuning.jobs.retrieve", "fine_tuning.jobs.list", "fine_tuning.jobs.pause",
                                  "fine_tuning.jobs.resume", "fine_tuning.jobs.cancel")  # fmt: skip


def methods_of(client: Any) -> set[str]:
    """The public methods of the covered parts, as ``part.method``."""
    return {f"{resource}.{name}" for resource in RESOURCES for name in methods(attrgetter(resource)(client))}


def methods(part: Any) -> list[str]:
    """The names of one part's public methods."""
    return [name for name, _ in inspect.getmembers(type(part), inspect.isfunction) if not name.startswith("_")]


class Caller:
    """Calls a client's methods by name, sync or async, and notes which."""

    def __init__(self, client: Any, lenient: Any, unvalidated: tuple[str, ...]) -> None:
        self._client = client
        self._lenient = lenient
        self._unvalidated = unvalidated
        """Beginnings of the methods whose answers are not validated."""
        self.called: set[str] = set()

    def _start(self, method: str, /, *args: Any, **named: Any) -> Any:
        self.called.add(method)
        what = f"{method}(stream)" if named.get("stream") else method
        client = self._lenient if what.startswith(self._unvalidated) else self._client
        return attrgetter(method)(client)(*args, **named)

    async def __call__(self, method: str, /, *args: Any, **named: Any) -> Any:
        """The answer of one call."""
        started = self._start(method, *args, **named)
        return await started if inspect.isawaitable(started) else started

    async def items(self, method: str, /, *args: Any, **named: Any) -> list[Any]:
        """The items of all pages, or the events of a stream."""
        started = self._start(method, *args, **named)
        if not hasattr(started, "__aiter__") and inspect.isawaitable(started):
            started = await started
        return [item async for item in started] if hasattr(started, "__aiter__") else list(started)

    async def final(self, method: str, ending: str, /, **named: Any) -> Any:
        """What a stream helper ends with."""
        manager = self._start(method, **named)
        if hasattr(manager, "__aenter__"):
            async with manager as stream:
                return await attrgetter(ending)(stream)()
        with manager as stream:
            return attrgetter(ending)(stream)()


async def _files(call: Caller) -> str:
    file = await call("files.create", file=("train.jsonl", ROWS), purpose="fine-tune")
    assert (await call("files.retrieve", file.id)).filename == "train.jsonl"
    assert (await call("files.wait_for_processing", file.id)).status == "processed"
    assert (await call("files.content", file.id)).content == ROWS
    with pytest.deprecated_call():
        assert await call("files.retrieve_content", file.id) == ROWS.decode()
    others = [(await call("files.create", file=("other.txt", b"x"), purpose="user_data")).id for _ in range(2)]
    listed = [f.id for f in await call.items("files.list", limit=1, purpose="user_data")]
    assert listed[:2] == others[::-1]
    assert (await call("files.delete", others[0])).deleted
    return file.id


async def _uploads(call: Caller) -> None:
    about: Any = {"filename": "big.jsonl", "purpose": "fine-tune", "bytes": len(ROWS), "mime_type": "text/jsonl"}
    upload = await call("uploads.create", **about)
    parts = [await call("uploads.parts.create", upload.id, data=piece) for piece in (ROWS[:100], ROWS[100:])]
    done = await call("uploads.complete", upload.id, part_ids=[part.id for part in parts])
    assert (done.status, done.file.bytes) == ("completed", len(ROWS))
    assert (await call("uploads.cancel", (await call("uploads.create", **about)).id)).status == "cancelled"
    chunked = await call(
        "uploads.upload_file_chunked",
        file=ROWS,
        filename="big.jsonl",
        bytes=len(ROWS),
        mime_type="text/jsonl",
        purpose="fine-tune",
        part_size=200,
    )
    assert (await call("files.content", chunked.file.id)).content == ROWS


async def _jobs(call: Caller, training_file: str, finish: Callable[[str], str]) -> str:
    job = await call(
        "fine_tuning.jobs.create",
        model=BASE_NAME,
        training_file=training_file,
        suffix="trip",
        seed=7,
        metadata={"trip": training_file},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
    )
    assert (await call("fine_tuning.jobs.pause", job.id)).id == job.id
    assert (await call("fine_tuning.jobs.resume", job.id)).status == "validating_files"
    stopped = await call("fine_tuning.jobs.create", model=BASE_NAME, training_file=training_file)
    assert (await call("fine_tuning.jobs.cancel", stopped.id)).status == "cancelled"
    tuned = finish(job.id)
    done = await call("fine_tuning.jobs.retrieve", job.id)
    assert (done.status, done.fine_tuned_model, done.hyperparameters.n_epochs) == ("succeeded", tuned, 1)
    mine = await call.items("fine_tuning.jobs.list", limit=1, metadata={"trip": training_file})
    assert [j.id for j in mine] == [job.id]
    events = await call.items("fine_tuning.jobs.list_events", job.id, limit=2)
    assert events[0].message == "The job has successfully completed"
    assert {event.type for event in events} == {"message", "metrics"}
    points = await call.items("fine_tuning.jobs.checkpoints.list", job.id, limit=1)
    assert [point.step_number for point in points] == [10, 5]
    assert points[0].fine_tuned_model_checkpoint == tuned
    result = (await call("files.content", done.result_files[0])).content
    assert base64.b64decode(result) == RESULT_CSV
    return tuned


async def _models_and_permissions(call: Caller, tuned: str) -> None:
    assert tuned in [model.id for model in await call.items("models.list")]
    assert (await call("models.retrieve", tuned)).owned_by == "luthier"
    place = "fine_tuning.checkpoints.permissions"
    (granted,) = await call.items(f"{place}.create", tuned, project_ids=["proj_a"])
    assert [p.id for p in await call.items(f"{place}.list", tuned, order="ascending")] == [granted.id]
    with pytest.deprecated_call():
        assert (await call(f"{place}.retrieve", tuned)).data[0].project_id == "proj_a"
    assert (await call(f"{place}.delete", granted.id, fine_tuned_model_checkpoint=tuned)).deleted


async def _chat(call: Caller, tuned: str) -> None:
    ask: Any = {"model": tuned, "messages": HI}
    answer = await call("chat.completions.create", **ask, store=True, metadata={"trip": tuned})
    assert (answer.choices[0].message.content, answer.model) == (SAID, tuned)
    chunks = await call.items("chat.completions.create", **ask, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SAID
    assert (await call("chat.completions.parse", **ask)).choices[0].message.content == SAID
    final = await call.final("chat.completions.stream", "get_final_completion", **ask)
    assert final.choices[0].message.content == SAID
    assert (await call("chat.completions.retrieve", answer.id)).id == answer.id
    assert [c.id for c in await call.items("chat.completions.list", metadata={"trip": tuned})] == [answer.id]
    said = await call.items("chat.completions.messages.list", answer.id)
    assert [(m.role, m.content) for m in said] == [("user", "hi")]
    assert (await call("chat.completions.update", answer.id, metadata={"trip": "over"})).metadata == {"trip": "over"}
    assert (await call("chat.completions.delete", answer.id)).deleted
    assert (await call("completions.create", model=tuned, prompt="hi")).choices[0].text == SAID
    pieces = await call.items("completions.create", model=tuned, prompt="hi", stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == SAID


async def _responses(call: Caller, tuned: str) -> None:
    ask: Any = {"model": tuned, "input": "hi"}
    answer = await call("responses.create", **ask)
    assert (answer.output_text, answer.status) == (SAID, "completed")
    events = await call.items("responses.create", **ask, stream=True)
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert (await call("responses.parse", **ask)).output_text == SAID
    assert (await call.final("responses.stream", "get_final_response", **ask)).output_text == SAID
    assert (await call("responses.retrieve", answer.id)).output_text == SAID
    assert [item.role for item in await call.items("responses.input_items.list", answer.id)] == ["user"]
    assert (await call("responses.input_tokens.count", **ask)).input_tokens > 0
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        await call("responses.cancel", answer.id)
    await call("responses.delete", answer.id)
    with pytest.raises(openai.NotFoundError):
        await call("responses.retrieve", answer.id)


async def _batches(call: Caller) -> None:
    body = {"model": BASE_NAME, "messages": HI}
    row = {"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": body}
    file = await call("files.create", file=("requests.jsonl", json.dumps(row).encode()), purpose="batch")
    batch = await call("batches.create", input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    deadline = time.monotonic() + 60
    while (batch := await call("batches.retrieve", batch.id)).status != "completed":
        assert time.monotonic() < deadline, batch
        await asyncio.sleep(0.05)
    page = await call("batches.list", limit=1)
    assert [listed.id for listed in page.data] == [batch.id]
    waiting = await call("batches.create", input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert (await call("batches.cancel", waiting.id)).status in ("cancelling", "cancelled")


async def _webhooks(call: Caller, receiver: Receiver) -> None:
    kinds: Any = ["fine_tuning.job.succeeded"]
    assert kinds[0] in (await call("webhooks.event_types.list")).data
    made = await call("webhooks.create", name="trip", url=receiver.url, event_types=kinds)
    assert (await call("webhooks.retrieve", made.id)).url == receiver.url
    assert (await call("webhooks.update", made.id, name="round trip")).name == "round trip"
    assert made.id in [endpoint.id for endpoint in await call.items("webhooks.list", limit=1)]
    secret = (await call("webhooks.rotate_secret", made.id)).signing_secret
    assert (await call("webhooks.test", made.id, event_type=kinds[0])).status_code == 200
    sent = receiver.next()
    await call("webhooks.verify_signature", sent.body, sent.headers, secret=secret)
    assert (await call("webhooks.unwrap", sent.body, sent.headers, secret=secret)).type == kinds[0]
    with pytest.raises(openai.InvalidWebhookSignatureError):
        await call("webhooks.unwrap", sent.body + b" ", sent.headers, secret=secret)
    assert (await call("webhooks.delete", made.id)).deleted


async def round_trip(call: Caller, finish: Callable[[str], str], receiver: Receiver) -> None:
    """Files, a job, its model, answers of it, webhooks.

    Args:
        finish: takes a job through every state, as a worker does; gives the name of its model.
        receiver: where webhooks arrive.
    """
    training_file = await _files(call)
    await _uploads(call)
    tuned = await _jobs(call, training_file, finish)
    await _models_and_permissions(call, tuned)
    await _chat(call, tuned)
    await _responses(call, tuned)
    await _batches(call)
    await _webhooks(call, receiver)
    assert (await call("models.delete", tuned)).deleted
