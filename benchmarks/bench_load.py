"""Load: many uploads and streaming chats at once, and lists over a large database.

What it does: 50 uploads and 50 streamed chats together against a real server, with the memory of its processes before,
at the peak and after; then p95 of list calls with 100,000 jobs and 10 million events. An error of any call ends the run.
Run: ``python -m benchmarks.bench_load``; ``--jobs`` and ``--only`` make it smaller. Building the database takes minutes
and 4 GB of disk.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil

from benchmarks.bench_startup import memory_megabytes
from benchmarks.large_database import EVENTS_PER_JOB, JOBS, build, counts
from benchmarks.measured import Server, median, record, serving

AT_ONCE = 50
ROUNDS = 8
UPLOAD_BYTES = 8 * 1024 * 1024
MAX_TOKENS = 48
REPEATS = 60
BOUND_MS = 300.0
ROW = json.dumps({"messages": [{"role": "user", "content": "hello " * 40}, {"role": "assistant", "content": "there " * 40}]}) + "\n"


def rss_mb(server: Server) -> dict[str, float]:
    """Resident memory of the server's processes."""
    return {role: round(value, 1) for role, value in memory_megabytes(server).items()}


@asynccontextmanager
async def peaks(server: Server) -> AsyncIterator[dict[str, float]]:
    """The largest memory of each process while the block runs."""
    largest: dict[str, float] = {}

    async def watch() -> None:
        while True:
            with contextlib.suppress(psutil.NoSuchProcess):
                for name, value in rss_mb(server).items():
                    largest[name] = max(largest.get(name, 0.0), value)
            await asyncio.sleep(0.1)

    watcher = asyncio.create_task(watch())
    try:
        yield largest
    finally:
        watcher.cancel()


async def upload(client: openai.AsyncOpenAI, content: bytes) -> float:
    """Seconds of one upload."""
    started = time.perf_counter()
    file = await client.files.create(file=("train.jsonl", content), purpose="fine-tune")
    assert file.bytes == len(content)
    await client.files.delete(file.id)
    return time.perf_counter() - started


async def chat(client: openai.AsyncOpenAI, seed: int) -> float:
    """Seconds of one streamed chat, read to its end."""
    started = time.perf_counter()
    stream = await client.chat.completions.create(
        model="luthier-mini",
        messages=[{"role": "user", "content": "Tell me about the river"}],
        max_completion_tokens=MAX_TOKENS,
        temperature=1.0,
        seed=seed,
        stream=True,
    )
    reasons = [chunk.choices[0].finish_reason async for chunk in stream if chunk.choices]
    assert reasons[-1] in ("stop", "length")
    return time.perf_counter() - started


def p95(values: Sequence[float]) -> float:
    """The smallest value that 95 % do not exceed."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


async def crowd(server: Server) -> dict[str, Any]:
    """All uploads and chats together, several rounds."""
    content = ROW.encode() * (UPLOAD_BYTES // len(ROW))
    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=server.key, max_retries=0, timeout=600.0) as client:
        await chat(client, 0)  # connections, caches
        await upload(client, ROW.encode() * 10)
        before = rss_mb(server)
        uploads: list[float] = []
        chats: list[float] = []
        after: list[dict[str, float]] = []
        async with peaks(server) as largest:
            for number in range(ROUNDS):
                calls = [upload(client, content) for _ in range(AT_ONCE)] + [chat(client, 100 * number + i) for i in range(AT_ONCE)]
                seconds = await asyncio.gather(*calls)
                uploads += seconds[:AT_ONCE]
                chats += seconds[AT_ONCE:]
                after.append(rss_mb(server))
    return {
        "calls": {"uploads": len(uploads), "chats": len(chats), "errors": 0, "upload_mb": UPLOAD_BYTES / 2**20},
        "upload": {"median_s": median(uploads), "p95_s": round(p95(uploads), 3)},
        "chat stream": {"median_s": median(chats), "p95_s": round(p95(chats), 3)},
        "memory before (MB)": before,
        "memory at the peak (MB)": dict(largest),
        **{f"memory after round {number + 1} (MB)": found for number, found in enumerate(after)},
    }


def _timed(http: httpx2.Client, path: str, **params: str | int) -> tuple[float, Any]:
    started = time.perf_counter()
    answer = http.get(path, params=params)
    milliseconds = 1000 * (time.perf_counter() - started)
    assert answer.status_code == 200, answer.text
    return milliseconds, answer.json()


def lists(server: Server) -> dict[str, Any]:
    """Each kind of list call over real HTTP; pages begin at random places."""
    rng = random.Random(5)
    headers = {"authorization": f"Bearer {server.key}"}
    with httpx2.Client(base_url=server.url + "/v1", headers=headers, timeout=60.0) as http:
        jobs, files = _some_ids(http, "/fine_tuning/jobs", 1000), _some_ids(http, "/files", 10000)

        def events() -> str:
            return f"/fine_tuning/jobs/{rng.choice(jobs)}/events"

        def later_events() -> float:
            path = events()
            _, page = _timed(http, path, limit=50)
            return _timed(http, path, after=page["data"][-1]["id"])[0]

        calls: dict[str, Callable[[], float]] = {
            "jobs": lambda: _timed(http, "/fine_tuning/jobs")[0],
            "jobs, 100 after a random one": lambda: _timed(http, "/fine_tuning/jobs", limit=100, after=rng.choice(jobs))[0],
            "jobs of a common metadata value": lambda: _timed(http, "/fine_tuning/jobs", **{"metadata[team]": "team-7"})[0],
            "jobs of a rare metadata value": lambda: _timed(http, "/fine_tuning/jobs", **{"metadata[team]": "rare"})[0],
            "events of one job": lambda: _timed(http, events())[0],
            "events of one job, after one": later_events,
            "all events of one job": lambda: _timed(http, events(), limit=1000)[0],
            "files, 100": lambda: _timed(http, "/files", limit=100)[0],
            "files, 100 after a random one": lambda: _timed(http, "/files", limit=100, after=rng.choice(files))[0],
            "files of one purpose, 100 oldest": lambda: _timed(http, "/files", limit=100, purpose="fine-tune", order="asc")[0],
            "files of a purpose without files": lambda: _timed(http, "/files", purpose="batch")[0],
            "files, the default of 10,000": lambda: _timed(http, "/files")[0],
        }
        return {name: _series(server, call) for name, call in calls.items()}


def _cpu_seconds(server: Server) -> float:
    times = psutil.Process(server.process.pid).cpu_times()
    return times.user + times.system


def _series(server: Server, call: Callable[[], float]) -> dict[str, float]:
    """One kind of call, repeated. The server's own processor time tells what a busy machine hides."""
    before = _cpu_seconds(server)
    ms = [call() for _ in range(REPEATS)]
    cpu_ms = 1000 * (_cpu_seconds(server) - before) / REPEATS
    return {"p95_ms": round(p95(ms), 1), "median_ms": median(ms, 1), "server_cpu_ms": round(cpu_ms, 1), "bound_ms": BOUND_MS}


def _some_ids(http: httpx2.Client, path: str, limit: int) -> list[str]:
    """Ids from the newest pages: up to ten of them."""
    ids: list[str] = []
    while len(ids) < 10 * limit:
        _, page = _timed(http, path, limit=limit, **({"after": ids[-1]} if ids else {}))
        ids += [item["id"] for item in page["data"]]
        if not page["has_more"]:
            break
    return ids


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description="Uploads and chats at once; lists over a large database.")
    parser.add_argument("--jobs", type=int, default=JOBS, help="jobs of the large database, 100 events each")
    parser.add_argument(
        "--database",
        type=Path,
        help="a large database, made by `python -m benchmarks.large_database FILE` on the disk of the temporary directory",
    )
    parser.add_argument("--only", choices=("crowd", "lists"), help="half of it, and no baseline")
    options = parser.parse_args()
    results: dict[str, Any] = {"load of the machine before": {"one_minute": round(os.getloadavg()[0], 2)}}
    if options.only != "lists":
        with serving() as server:
            results |= asyncio.run(crowd(server))
    if options.only != "crowd":
        sizes: dict[str, Any] = {}

        def prepare(data_dir: Path) -> None:
            database = data_dir / "state.db"
            if options.database is None:
                build(database, jobs=options.jobs, events_per_job=EVENTS_PER_JOB)
            else:
                data_dir.mkdir(parents=True)
                os.link(options.database, database)
            sizes.update(counts(database), gb=round(database.stat().st_size / 1e9, 2))

        with serving(prepare) as server:
            results |= {"large database": {**sizes, "serve_to_ready_s": round(server.ready_seconds, 1)}, **lists(server)}
    if options.only is None:
        record("load", results)
    else:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
