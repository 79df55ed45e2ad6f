"""What a script written for OpenAI does, with whatever version of the official client this Python has.

What it does: files, jobs, events, checkpoints, models, chat, completions, responses where the version knows them, webhooks;
strict validation of every answer. What it does not: import anything of the project. Run by test_openai_clients.py with the
Python of ``.client-envs/openai-1`` and the like; reads where to go from standard input and prints what it called as JSON.
"""

import asyncio
import base64
import json
import sys
from operator import attrgetter
from typing import Any

import openai

HI = [{"role": "user", "content": "hi"}]
ROWS = b"".join(json.dumps({"messages": [*HI, {"role": "assistant", "content": "hello"}]}).encode() + b"\n" for _ in range(10))
called: list[str] = []


def call(client: Any, method: str, *args: Any, **named: Any) -> Any:
    """One call by name, noted."""
    called.append(method)
    return attrgetter(method)(client)(*args, **named)


def knows(client: Any, method: str) -> bool:
    """True when this version of the client has the method."""
    try:
        attrgetter(method)(client)
    except AttributeError:
        return False
    return True


def code_of_unknown_job(client: Any) -> str | None:
    """What the error of a job that is not there says."""
    try:
        client.fine_tuning.jobs.retrieve("ftjob-nothing")
    except openai.NotFoundError as error:
        return error.code
    return None


def files_and_jobs(client: Any, given: dict[str, Any]) -> None:
    """Upload, start, pause, watch, stop; then read a job that has ended."""
    file = call(client, "files.create", file=("train.jsonl", ROWS), purpose="fine-tune")
    assert call(client, "files.retrieve", file.id).status == "processed"
    assert call(client, "files.wait_for_processing", file.id).id == file.id
    assert call(client, "files.content", file.id).read() == ROWS
    assert file.id in [f.id for f in call(client, "files.list", purpose="fine-tune", limit=1)]
    whole = call(client, "uploads.upload_file_chunked", file=ROWS, filename="b.jsonl", bytes=len(ROWS), mime_type="text/jsonl",
                 purpose="fine-tune", part_size=200)  # fmt: skip
    assert whole.file.bytes == len(ROWS)
    job = call(client, "fine_tuning.jobs.create", model="gpt-4o-mini-2024-07-18", training_file=file.id, suffix="old",
               hyperparameters={"n_epochs": 2}, metadata={"from": openai.__version__})  # fmt: skip
    assert (job.status, job.hyperparameters.n_epochs) == ("validating_files", 2)
    for method, status in (("pause", "queued"), ("resume", "validating_files")):
        if knows(client, f"fine_tuning.jobs.{method}"):
            assert call(client, f"fine_tuning.jobs.{method}", job.id).status == status
    assert call(client, "fine_tuning.jobs.cancel", job.id).status == "cancelled"
    assert code_of_unknown_job(client) == "fine_tune_not_found"
    done = call(client, "fine_tuning.jobs.retrieve", given["job"])
    assert (done.status, done.fine_tuned_model) == ("succeeded", given["model"])
    assert done.id in [j.id for j in call(client, "fine_tuning.jobs.list", limit=1)]
    messages = [e.message for e in call(client, "fine_tuning.jobs.list_events", done.id, limit=2)]
    assert messages[0] == "The job has successfully completed", messages
    assert messages[-1] == f"Created fine-tuning job: {done.id}", messages
    points = list(call(client, "fine_tuning.jobs.checkpoints.list", done.id, limit=1))
    assert [p.step_number for p in points] == [10, 5]
    csv = base64.b64decode(call(client, "files.content", done.result_files[0]).read())
    assert csv.startswith(b"step,train_loss"), csv
    assert call(client, "files.delete", file.id).deleted


def models_and_answers(client: Any, lenient: Any, model: str) -> None:
    """Chat, whole and streamed; completions; responses where the version has them.

    OpenAI's schema of stored messages has the role "assistant" only, so nothing validates those.
    """
    assert model in [m.id for m in call(client, "models.list")]
    assert call(client, "models.retrieve", model).id == model
    assert call(client, "chat.completions.create", model=model, messages=HI).choices[0].message.content == "Hello world!"
    chunks = call(client, "chat.completions.create", model=model, messages=HI, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Hello world!"
    assert call(client, "completions.create", model=model, prompt="hi").choices[0].text == "Hello world!"
    if knows(client, "responses.create"):
        answer = call(client, "responses.create", model=model, input="hi")
        assert answer.output_text == "Hello world!"
        assert call(client, "responses.retrieve", answer.id).id == answer.id
        kinds = [event.type for event in call(client, "responses.create", model=model, input="hi", stream=True)]
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
        assert [item.role for item in call(client, "responses.input_items.list", answer.id)] == ["user"]
        call(client, "responses.delete", answer.id)
    if knows(client, "chat.completions.list"):
        stored = call(client, "chat.completions.create", model=model, messages=HI, store=True)
        assert stored.id in [c.id for c in call(client, "chat.completions.list", order="desc")]
        assert [m.content for m in call(lenient, "chat.completions.messages.list", stored.id)] == ["hi"]
        assert call(client, "chat.completions.delete", stored.id).deleted


def webhook(client: Any, given: dict[str, Any]) -> None:
    """A delivery that really came in is verified, a changed one is not."""
    event = call(client, "webhooks.unwrap", given["body"], given["headers"], secret=given["secret"])
    assert event.type == "fine_tuning.job.succeeded"
    try:
        client.webhooks.unwrap(given["body"] + " ", given["headers"], secret=given["secret"])
    except openai.InvalidWebhookSignatureError:
        return
    raise AssertionError("a changed body passed")


async def streamed_by_the_async_client(options: dict[str, Any], model: str) -> None:
    """The same stream, through the other half of the client."""
    async with openai.AsyncOpenAI(**options) as client:
        stream: Any = await client.chat.completions.create(model=model, messages=HI, stream=True)  # type: ignore[call-overload]
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "Hello world!"


def main() -> None:
    """Everything, in the order in which people do it."""
    given = json.load(sys.stdin)
    options: dict[str, Any] = {"base_url": given["base_url"], "api_key": given["api_key"], "max_retries": 0, "timeout": 30}
    strict = {**options, "_strict_response_validation": True}
    client = openai.OpenAI(**strict)
    files_and_jobs(client, given)
    models_and_answers(client, openai.OpenAI(**options), given["model"])
    webhook(client, given["webhook"])
    asyncio.run(streamed_by_the_async_client(strict, given["model"]))
    print(json.dumps({"version": openai.__version__, "calls": sorted(set(called))}))


if __name__ == "__main__":
    main()
