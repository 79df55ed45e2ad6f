"""Many calls at once: none fails, none gets another's answer. How fast they are is measured in benchmarks/bench_load.py."""

import asyncio
import json
from typing import Any

import openai

from luthier.core.engine_messages import Generate
from tests.support.api_server import KEY, ApiServer
from tests.support.fake_engine import BASE, Step, saying

AT_ONCE = 50


def rows_of(number: int) -> bytes:
    """A training file of its own, 200 KB, for each upload."""
    row = {"messages": [{"role": "user", "content": f"question {number} " + "x" * 900}, {"role": "assistant", "content": "yes"}]}
    return (json.dumps(row).encode() + b"\n") * 200


async def upload(client: openai.AsyncOpenAI, number: int) -> None:
    content = rows_of(number)
    file = await client.files.create(file=(f"rows-{number}.jsonl", content), purpose="fine-tune")
    assert (file.filename, file.bytes) == (f"rows-{number}.jsonl", len(content))
    assert (await client.files.content(file.id)).content == content
    assert (await client.files.delete(file.id)).deleted


async def chat(client: openai.AsyncOpenAI, number: int) -> None:
    messages: list[Any] = [{"role": "user", "content": str(number)}]
    stream = await client.chat.completions.create(model=BASE, messages=messages, stream=True)
    choices = [chunk.choices[0] async for chunk in stream]
    assert "".join(choice.delta.content or "" for choice in choices) == f"answer {number}"
    assert choices[-1].finish_reason == "stop"


def test_uploads_and_streamed_chats_at_once(server: ApiServer) -> None:
    met = asyncio.Event()
    waiting: set[str] = set()

    def script(request: Generate) -> list[Step]:
        assert request.messages is not None
        number = request.messages[0]["content"]
        waiting.add(number)

        async def until_all_stream() -> None:
            if len(waiting) == AT_ONCE:
                met.set()
            await met.wait()

        first, *rest = saying("answer ", number)(request)
        return [first, until_all_stream, *rest]

    async def crowd() -> None:
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=KEY, max_retries=0, timeout=60) as client:
            await asyncio.gather(*(upload(client, i) for i in range(AT_ONCE)), *(chat(client, i) for i in range(AT_ONCE)))

    server.engine.generate = script
    asyncio.run(crowd())
    assert len(waiting) == AT_ONCE
