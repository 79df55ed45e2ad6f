"""What one open page hears: every job of its project that changes, and the trace of the job that it shows, as server-sent events.

What it does: on one connection for a tab, events with ids, so that a browser that lost it goes on where it was, also after a restart of
the server: jobs from the database by its own count of changes, traces from the run's log by their ids. A comment now and then keeps
proxies from ending it. What it does not: draw. Called by ``routes/dashboard.py``.

An id is ``MARK-TRACE``: the latest change of a job that was told, and the latest trace event.
"""

import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import orjson
from fastapi.concurrency import run_in_threadpool

from luthier.api.job_rows import job_row
from luthier.api.sse import EventStream
from luthier.storage.job_overview import JobOverview
from luthier.trace.events import event_to_dict
from luthier.trace.reader import LogTail

POLL_SECONDS = 0.4
COMMENT_SECONDS = 15.0
_PAGE = 200
_ID = re.compile(r"(\d{1,18})-(\d{1,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far a tab has heard."""

    mark: int | None = None
    """Of the jobs; None: only what changes from now on."""
    trace: int = 0
    """Id of the last trace event."""


def place_of(last_event_id: str | None, after: int) -> Place:
    """Where a tab goes on: what the browser says, else ``after``."""
    found = _ID.fullmatch(last_event_id or "")
    return Place(trace=after) if found is None else Place(mark=int(found[1]), trace=max(int(found[2]), after))


class Tab:
    """One connection. ``read`` is called in a thread, never twice at once."""

    def __init__(self, overview: JobOverview, clock: Callable[[], float], place: Place, *, trace: Path | None) -> None:
        self._overview, self._clock = overview, clock
        self._mark, self._last = place.mark, place.trace
        self._tail = None if trace is None else LogTail(trace, after=place.trace)

    @property
    def id(self) -> str:
        """So far."""
        return f"{self._mark or 0}-{self._last}"

    def begin(self) -> dict[str, Any]:
        """The first event."""
        if self._mark is None:
            self._mark = self._overview.mark()
        return {"event": "hello", "id": self.id, "data": {"object": "luthier.stream", "mark": self._mark}}

    def read(self) -> list[dict[str, Any]]:
        """What is new."""
        return [*self._jobs(), *self._trace()]

    def _jobs(self) -> Iterator[dict[str, Any]]:
        changed = self._overview.changed_since(self._mark or 0, _PAGE)
        if not changed:
            return
        now, places = self._clock(), self._overview.places(self._clock())
        for job, mark in changed:
            self._mark = mark
            yield {"event": "job", "id": self.id, "data": job_row(job, now=int(now), places=places)}

    def _trace(self) -> Iterator[dict[str, Any]]:
        for event in self._tail.read() if self._tail is not None else ():
            self._last = event.id
            yield {"event": "trace", "id": self.id, "data": event_to_dict(event)}


async def _events(tab: Tab, stopping: Callable[[], bool]) -> AsyncGenerator[dict[str, Any], None]:
    yield await run_in_threadpool(tab.begin)
    told = time.monotonic()
    while not stopping():
        found = await run_in_threadpool(tab.read)
        for event in found:
            yield event
        if found:
            told = time.monotonic()
        elif time.monotonic() - told > COMMENT_SECONDS:
            yield {"event": None}
            told = time.monotonic()
        await anyio.sleep(POLL_SECONDS)


async def _framed(events: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[bytes, None]:
    async for event in events:
        if event["event"] is None:
            yield b": still here\n\n"
        else:
            # orjson writes one line, and what is not a finite number as null.
            head = f"event: {event['event']}\nid: {event['id']}\ndata: "
            yield head.encode() + orjson.dumps(event["data"]) + b"\n\n"


def tab_stream(tab: Tab, stopping: Callable[[], bool]) -> EventStream:
    """The streamed answer; it ends when the client goes away or the server stops."""
    events = _events(tab, stopping)
    return EventStream(events, events, _framed)
