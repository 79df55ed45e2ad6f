"""Batches while processes are killed: every request has its one line at the end."""

import json
import time
from typing import Any

from openai import OpenAI

from tests.support.server import ServerProcess

CHAT = "/v1/chat/completions"
REQUESTS = 60


def start_batch(client: OpenAI) -> Any:
    rows = [
        {
            "custom_id": f"r{i}",
            "method": "POST",
            "url": CHAT,
            "body": {"model": "luthier-mini", "messages": [{"role": "user", "content": f"Count to {i}"}], "max_tokens": 60},
        }
        for i in range(REQUESTS)
    ]
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    file = client.files.create(file=("requests.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")


def wait_until(server: ServerProcess, batch_id: str, *, completed: int) -> Any:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        batch = server.client().batches.retrieve(batch_id)
        assert batch.request_counts is not None
        if batch.request_counts.completed >= completed and (completed < REQUESTS or batch.status == "completed"):
            return batch
        time.sleep(0.05)
    raise AssertionError(f"{batch_id} did not come so far; {server.logs()}")


def check(server: ServerProcess, batch_id: str) -> None:
    client = server.client()
    batch = wait_until(server, batch_id, completed=REQUESTS)
    rows = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert sorted(row["custom_id"] for row in rows) == sorted(f"r{i}" for i in range(REQUESTS))
    assert (batch.request_counts.total, batch.request_counts.failed, batch.error_file_id) == (REQUESTS, 0, None)
    used = [row["response"]["body"]["usage"] for row in rows]
    assert batch.usage.total_tokens == sum(usage["total_tokens"] for usage in used)


def test_all_processes_killed_in_the_middle_of_a_batch(fresh_server: ServerProcess) -> None:
    batch = start_batch(fresh_server.client())
    wait_until(fresh_server, batch.id, completed=3)
    fresh_server.kill_all()
    fresh_server.start()
    assert fresh_server.client().batches.retrieve(batch.id).status in ("in_progress", "finalizing", "completed")
    check(fresh_server, batch.id)


def test_a_killed_engine_fails_no_request_of_a_batch(fresh_server: ServerProcess) -> None:
    batch = start_batch(fresh_server.client())
    wait_until(fresh_server, batch.id, completed=3)
    (engine,) = [p for p in fresh_server.descendants() if "luthier.deployment.host" in " ".join(p.cmdline())]
    engine.kill()
    check(fresh_server, batch.id)
