"""A program that listens to a job while its server is killed: by the last id that it heard it goes on, without gap or repeat."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.browser.trained import create
from tests.support.server import ServerProcess

SECONDS = 240.0


def heard(server: ServerProcess, job_id: str, last_id: str | None) -> Iterator[tuple[str, str, Any]]:
    """Event, id and data, one by one, until the connection ends."""
    headers = {"authorization": f"Bearer {server.key}"} | ({} if last_id is None else {"last-event-id": last_id})
    parts: dict[str, str] = {}
    with (
        httpx2.Client(base_url=server.url, headers=headers, timeout=30) as http,
        http.stream("GET", f"/v1/luthier/stream?job={job_id}") as answer,
    ):
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                parts[name] = value
            elif "data" in parts:
                yield parts["event"], parts["id"], json.loads(parts["data"])
                parts = {}


@pytest.mark.timeout(400)
def test_a_listener_goes_on_after_the_server_was_killed(fresh_server: ServerProcess) -> None:
    job_id = create(fresh_server, suffix="heard", epochs=6)
    events: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    last_id, killed, deadline = None, 0, time.monotonic() + SECONDS

    def over() -> bool:
        return bool(rows) and rows[-1]["status"] == "succeeded" and any(event["type"] == "RunFinished" for event in events)

    while not over():
        assert time.monotonic() < deadline, (len(events), rows[-1:], fresh_server.logs())
        with contextlib.suppress(httpx2.HTTPError):
            for kind, mark, data in heard(fresh_server, job_id, last_id):
                last_id = mark
                (rows if kind == "job" else events if kind == "trace" else []).append(data)
                if not killed and sum(event["type"] == "StepDone" for event in events) == 12:
                    killed = len(events)
                    fresh_server.kill_all()
                    fresh_server.start()
                    break
                if over():
                    break
    assert killed
    assert len(events) > killed
    ids = [event["id"] for event in events]
    assert ids == list(range(1, len(ids) + 1)), "every event of the log once, in its order"
    assert {row["id"] for row in rows} == {job_id}
