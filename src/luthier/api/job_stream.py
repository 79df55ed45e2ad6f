"""A job's events as a stream: those it has, then those it gets, until the job is final.

What it does: reads the database a page at a time, so that memory stays flat however long the list is and however slowly the
client reads. What it does not: frame events or notice that the client went away (``sse.py``). Called by
``routes/fine_tuning.py``.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from fastapi.concurrency import run_in_threadpool

from luthier.api.mapping import event_object
from luthier.api.sse import EventStream
from luthier.core.jobs import JobEvent
from luthier.storage.jobs import JobStore

PAGE = 100
POLL_SECONDS = 0.25


def _read(jobs: JobStore, job_id: str, sequence: int) -> tuple[bool, tuple[JobEvent, ...]]:
    """Whether the job is final, and its next events; in this order, because a final job gets no more."""
    job = jobs.get(job_id)
    return job is None or job.status.is_final, jobs.events_since(job_id, sequence, PAGE)


async def job_events(jobs: JobStore, job_id: str, sequence: int) -> AsyncGenerator[JobEvent, None]:
    """The events after ``sequence``, oldest first; ends when the job is final and all are told."""
    while True:
        final, events = await run_in_threadpool(_read, jobs, job_id, sequence)
        for event in events:
            sequence = event.sequence
            yield event
        if final and not events:
            return
        if not events:
            await asyncio.sleep(POLL_SECONDS)


async def _shown(events: AsyncGenerator[JobEvent, None]) -> AsyncGenerator[dict[str, Any], None]:
    async for event in events:
        yield event_object(event)


def event_stream(jobs: JobStore, job_id: str, sequence: int) -> EventStream:
    """The streamed answer."""
    events = job_events(jobs, job_id, sequence)
    return EventStream(_shown(events), events)
