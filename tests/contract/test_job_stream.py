"""``GET /fine_tuning/jobs/{id}/events?stream=true``: what was, then what comes, then the end."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from luthier.api import job_stream
from luthier.core.jobs import JobEvent, JobStatus
from luthier.storage.jobs import JobStore
from tests.support.api_server import ApiServer
from tests.support.office import new_job, note


def submitted(server: ApiServer, *messages: str) -> tuple[str, int]:
    """A job with these events after its first two, and the number of a lease on it."""
    job = server.services.queue.submit(new_job(status=JobStatus.RUNNING))
    while True:
        leased = server.services.queue.lease("owner-test", [JobStatus.RUNNING])
        assert leased is not None
        if leased.id == job.id:
            break
    server.services.jobs.update(job.id, fence=leased.fence, events=[note(text) for text in messages])
    return job.id, leased.fence


def finish(server: ApiServer, job_id: str, fence: int) -> None:
    changes = {"status": JobStatus.SUCCEEDED, "fine_tuned_model": "ft:m"}
    server.services.jobs.update(job_id, fence=fence, changes=changes, events=[note("The job has successfully completed")])


def data_lines(lines: Iterator[str]) -> Iterator[str]:
    return (line.removeprefix("data: ") for line in lines if line)


def stream(server: ApiServer, job_id: str, query: str = "stream=true") -> list[Any]:
    with server.http() as http, http.stream("GET", f"/v1/fine_tuning/jobs/{job_id}/events?{query}") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines), "data-only events"
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_a_finished_job_is_told_from_its_beginning(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_stream, "PAGE", 2)
    job_id, fence = submitted(server, "one", "two", "three")
    finish(server, job_id, fence)
    events = stream(server, job_id)
    listed = server.client().fine_tuning.jobs.list_events(job_id, limit=100).data
    assert [e["id"] for e in events] == [e.id for e in reversed(listed)]
    assert [e["message"] for e in events][2:] == ["one", "two", "three", "The job has successfully completed"]
    assert events[0] == {**listed[-1].model_dump(), "data": {}}


def test_after_goes_on_behind_an_event(server: ApiServer) -> None:
    job_id, fence = submitted(server, "one", "two")
    finish(server, job_id, fence)
    third = stream(server, job_id)[2]
    assert [e["message"] for e in stream(server, job_id, f"stream=true&after={third['id']}")] == [
        "two",
        "The job has successfully completed",
    ]


def test_a_running_job_is_followed_to_its_end(server: ApiServer) -> None:
    job_id, fence = submitted(server, "before")
    with server.http() as http, http.stream("GET", f"/v1/fine_tuning/jobs/{job_id}/events?stream=true") as answer:
        lines = data_lines(answer.iter_lines())
        assert [json.loads(next(lines))["message"] for _ in range(3)][2] == "before"
        server.services.jobs.update(job_id, fence=fence, events=[note("meanwhile")])
        assert json.loads(next(lines))["message"] == "meanwhile"
        finish(server, job_id, fence)
        assert json.loads(next(lines))["message"] == "The job has successfully completed"
        assert next(lines) == "[DONE]"


def test_a_client_that_leaves_ends_the_stream(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    original = job_stream.job_events

    async def watched(jobs: JobStore, job_id: str, sequence: int) -> AsyncGenerator[JobEvent, None]:
        try:
            async for event in original(jobs, job_id, sequence):
                yield event
        finally:
            ended.set()

    monkeypatch.setattr(job_stream, "job_events", watched)
    job_id, fence = submitted(server, "before")
    with server.http() as http, http.stream("GET", f"/v1/fine_tuning/jobs/{job_id}/events?stream=true") as answer:
        next(data_lines(answer.iter_lines()))
    assert ended.wait(20)
    finish(server, job_id, fence)


def test_no_more_than_a_page_is_held(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, fence = submitted(server, *(f"event {n}" for n in range(1000)))
    finish(server, job_id, fence)
    sizes: list[int] = []
    original = JobStore.events_since

    def counted(self: JobStore, job_id: str, sequence: int, limit: int | None = None) -> Any:
        events = original(self, job_id, sequence, limit)
        sizes.append(len(events))
        return events

    monkeypatch.setattr(JobStore, "events_since", counted)

    async def read() -> int:
        return len([event async for event in job_stream.job_events(server.services.jobs, job_id, 0)])

    assert asyncio.run(read()) == 1003
    assert max(sizes) <= job_stream.PAGE


def test_an_unknown_job_or_event_is_not_found(server: ApiServer) -> None:
    job_id, _ = submitted(server)
    with server.http() as http:
        assert http.get("/v1/fine_tuning/jobs/ftjob-nothing/events?stream=true").json()["error"]["code"] == "fine_tune_not_found"
        unknown = http.get(f"/v1/fine_tuning/jobs/{job_id}/events?stream=true&after=ftevent-nothing")
        assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "after")
        wrong = http.get(f"/v1/fine_tuning/jobs/{job_id}/events?stream=perhaps")
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "stream")
