"""Serving over HTTP: tokens per second and time to first token at several numbers of concurrent streams.

The official async client streams completions of an open-ended prompt; its own cost on the same cores is part of the number.
Run: ``python -m benchmarks.bench_serving``.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import openai

from benchmarks.measured import Server, median, record, serving, spread

CONCURRENCY = (1, 8, 32)
REPEATS = 5
REQUESTS_PER_STREAM = 2
MAX_TOKENS = 64
PROMPT = (
    "Once upon a time there was an old man who lived in a small house by the river. Every morning he went down to the water "
    "with his dog, and every morning the fish came up to look at him. One day"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One finished stream."""

    tokens: int
    first_seconds: float


async def ask(client: openai.AsyncOpenAI, seed: int) -> Answer:
    """Stream one answer; tokens are those the server counted."""
    started = time.perf_counter()
    first = 0.0
    tokens = 0
    stream = await client.completions.create(
        model="luthier-mini",
        prompt=PROMPT,
        max_tokens=MAX_TOKENS,
        temperature=1.0,
        seed=seed,
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in stream:
        if not first and chunk.choices:
            first = time.perf_counter() - started
        if chunk.usage is not None:
            tokens = chunk.usage.completion_tokens
    return Answer(tokens, first)


async def burst(server: Server, concurrency: int, seed: int) -> tuple[float, float, float]:
    """Tokens per second of all streams together, median time to first token (ms), mean tokens per answer."""
    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=server.key, max_retries=0, timeout=600.0) as client:

        async def stream_of(index: int) -> list[Answer]:
            return [await ask(client, seed + index * REQUESTS_PER_STREAM + i) for i in range(REQUESTS_PER_STREAM)]

        started = time.perf_counter()
        answers = [a for stream in await asyncio.gather(*(stream_of(i) for i in range(concurrency))) for a in stream]
        seconds = time.perf_counter() - started
    total = sum(a.tokens for a in answers)
    return total / seconds, 1000 * median([a.first_seconds for a in answers], 6), total / len(answers)


def main() -> None:
    """Measure and record."""
    results: dict[str, Any] = {}
    with serving() as server:
        asyncio.run(burst(server, 8, seed=0))  # connections, caches
        for concurrency in CONCURRENCY:
            bursts = [asyncio.run(burst(server, concurrency, seed=1000 * repeat)) for repeat in range(1, REPEATS + 1)]
            results[f"{concurrency} concurrent"] = {
                "tokens_per_second": median([b[0] for b in bursts], 1),
                "ttft_ms": median([b[1] for b in bursts], 1),
                "tokens_per_answer": median([b[2] for b in bursts], 1),
                "spread": spread([b[0] for b in bursts]),
            }
    record("serving", results)


if __name__ == "__main__":
    main()
