"""Runs batches: checks their files, answers their requests through the application itself, makes their files.

What it does: goes on with every batch that is not final, a bounded number of requests at once over all of them. What it does not:
take orders (``routes/batches.py`` writes them into the row). Started by ``app.py`` with the application. Everything it knows stands in
rows and in ``outcomes.py``'s files, so it may be stopped or killed at any moment: the next start goes on.
"""

import asyncio
import dataclasses
import itertools
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from luthier.api.batches.inner import Answer, post
from luthier.api.batches.lines import BatchLine, check_file, read_lines
from luthier.api.batches.outcomes import Outcomes, remove_outcomes
from luthier.api.deps import Services
from luthier.api.errors import error_body, http_error_of
from luthier.core.batches import BatchRecord, BatchStatus
from luthier.core.errors import InvalidRequest, StorageFull, Unavailable
from luthier.core.ids import new_request_id
from luthier.core.keys import Caller, Role

_LOG = logging.getLogger("luthier.batches")

IDLE_SECONDS = 0.5
FAULT_SECONDS = 5.0
"""Wait before a batch that a full disk or a busy database stopped is taken up again."""
NOTE_SECONDS = 1.0
"""Counts are written to the row this often: each is a durable write."""
RETRIED = frozenset({429, 503})
"""Answers that say "later", not "no"."""
LONGEST_PAUSE_SECONDS = 30.0
_CHUNK_LINES = 64


class BatchRunner:
    """Works on every active batch.

    Args:
        app: the application that answers.
        services: over all projects.
        first_pause: seconds before a request is tried again; each further pause is twice as long.
    """

    def __init__(self, app: ASGIApp, services: Services, *, first_pause: float = 1.0) -> None:
        self._app, self._services = app, services
        self._first_pause = first_pause
        self._places = asyncio.Semaphore(max(1, services.settings.batch_concurrency))
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._swept = False

    async def run(self) -> None:
        """Until cancelled; batches under way stop with it and are gone on with at the next start."""
        try:
            while True:
                pause = IDLE_SECONDS
                try:
                    await self.start_new()
                except (Unavailable, StorageFull) as busy:
                    pause = FAULT_SECONDS
                    _LOG.warning("no batches looked for: %s", busy.message)
                except Exception:  # noqa: BLE001 - an edge: one unforeseen fault must not end all batches in silence
                    pause = FAULT_SECONDS
                    _LOG.exception("no batches looked for")
                await asyncio.sleep(pause)
        finally:
            tasks = list(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def start_new(self) -> None:
        """Take up every active batch that nobody works on; the first time, remove what a crash left of ended ones."""
        active = await asyncio.to_thread(self._services.batches.active)
        if not self._swept:
            await asyncio.to_thread(self._sweep, {record.id for record in active})
            self._swept = True
        for record in active:
            if record.id not in self._under_way:
                task = asyncio.create_task(self._guarded(record), name=record.id)
                self._under_way[record.id] = task

    def _sweep(self, active: set[str]) -> None:
        folder = self._services.settings.batches_dir
        for left in folder.iterdir() if folder.is_dir() else ():
            if left.name not in active:
                remove_outcomes(left)

    async def finish_started(self) -> None:
        """Wait for the batches under way."""
        await asyncio.gather(*self._under_way.values())

    async def _guarded(self, record: BatchRecord) -> None:
        try:
            await self._work(record)
        except (Unavailable, StorageFull, OSError) as busy:
            _LOG.warning("%s stopped, it will be taken up again: %s", record.id, busy)
            await asyncio.sleep(FAULT_SECONDS)
        except Exception:  # noqa: BLE001 - an edge: nobody else would hear of it
            _LOG.exception("%s stopped, it will be taken up again", record.id)
            await asyncio.sleep(FAULT_SECONDS)
        finally:
            self._under_way.pop(record.id, None)

    def _folder(self, record: BatchRecord) -> Path:
        return self._services.settings.batches_dir / record.id

    def _now(self) -> int:
        return int(self._services.clock())

    async def _move(self, record: BatchRecord, status: BatchStatus, **values: Any) -> BatchRecord:
        moved = await asyncio.to_thread(self._services.batches.move, record.id, status, self._now(), **values)
        assert moved is not None
        return moved

    async def _work(self, record: BatchRecord) -> None:
        if record.status is BatchStatus.VALIDATING:
            record = await self._checked(record)
        if record.status.is_final:
            return
        outcomes = await asyncio.to_thread(Outcomes, self._folder(record))
        try:
            if record.status is not BatchStatus.FINALIZING:
                record = await _Answering(self._app, self._services, self._places, record, outcomes, self._first_pause).run()
            ended = await self._finished(record, outcomes)
        finally:
            outcomes.close()
        if not ended.status.is_final:
            # Cancelled in the last moment of its window: it is taken up again as that, with all that is answered.
            return
        await asyncio.to_thread(remove_outcomes, self._folder(record))
        _LOG.info("%s ended: %d answered, %d failed, of %d", record.id, outcomes.num_completed, outcomes.num_failed, record.num_total)

    async def _checked(self, record: BatchRecord) -> BatchRecord:
        path = self._services.blobs.path(record.input_sha256)
        checked = await asyncio.to_thread(check_file, path, record.endpoint, self._services.settings.max_line_bytes)
        if checked.faults:
            return await self._move(record, BatchStatus.FAILED, errors=[dataclasses.asdict(fault) for fault in checked.faults])
        return await self._move(record, BatchStatus.IN_PROGRESS, num_total=checked.num_lines, model=checked.model)

    async def _finished(self, record: BatchRecord, outcomes: Outcomes) -> BatchRecord:
        """The files, and with them the last status, in one step."""
        ends = {BatchStatus.CANCELLING: BatchStatus.CANCELLED, BatchStatus.FINALIZING: BatchStatus.COMPLETED}
        end = ends.get(record.status, BatchStatus.EXPIRED)
        files = await asyncio.to_thread(outcomes.stored, self._services.blobs, record, self._now())
        ids = {name: file.id for name, file in files.items()}
        return await self._move(record, end, files=tuple(files.values()), **ids, **outcomes.counts())


class _Answering:
    """Answers one batch's requests until all are answered, its time is over, or it was cancelled."""

    def __init__(
        self, app: ASGIApp, services: Services, places: asyncio.Semaphore, record: BatchRecord, outcomes: Outcomes, first_pause: float
    ) -> None:
        self._app, self._services, self._places = app, services, places
        self._record, self._outcomes = record, outcomes
        self._first_pause = first_pause
        # Its lines do not count as requests of a key: a batch has a bound of its own.
        self._caller = Caller(key_id="batches", role=Role.MEMBER, project_id=record.project_id)
        self._tasks: set[asyncio.Task[None]] = set()
        self._noted_at = 0.0
        self._fault: BaseException | None = None

    async def run(self) -> BatchRecord:
        """The batch's row afterwards: finalizing, cancelling, or in progress with its time over and every request answered so."""
        try:
            await self._look(note=True)
            # A batch that was cancelled while its file was checked may have a faulty one.
            if not self._is_over():
                await self._begin_all()
            await self._wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._fault is not None:
            raise self._fault
        await self._look(note=True)
        if self._record.status is BatchStatus.CANCELLING:
            return self._record
        if self._is_late():
            async for line in self._open_lines():
                self._outcomes.expire(line.custom_id)
            return self._record
        moved = await asyncio.to_thread(self._services.batches.move, self._record.id, BatchStatus.FINALIZING, int(self._services.clock()))
        assert moved is not None
        return moved

    async def _begin_all(self) -> None:
        async for line in self._open_lines():
            await self._look()
            await self._places.acquire()
            if self._is_over():
                self._places.release()
                return
            task = asyncio.create_task(self._answer(line))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._places.release()
        if not task.cancelled() and task.exception() is not None:
            self._fault = task.exception()

    async def _open_lines(self) -> AsyncIterator[BatchLine]:
        settings = self._services.settings
        lines = read_lines(self._services.blobs.path(self._record.input_sha256), self._record.endpoint, settings.max_line_bytes)
        while chunk := await asyncio.to_thread(lambda: list(itertools.islice(lines, _CHUNK_LINES))):
            for line in chunk:
                if line.custom_id not in self._outcomes.answered:
                    yield line

    async def _wait(self) -> None:
        """For the requests under way: to their end, or to the end of the batch's time."""
        while self._tasks and not self._is_late() and self._fault is None:
            await asyncio.wait(self._tasks, timeout=NOTE_SECONDS)
            await self._look()

    def _is_late(self) -> bool:
        return self._services.clock() >= self._record.expires_at

    def _is_over(self) -> bool:
        return self._fault is not None or self._is_late() or self._record.status is BatchStatus.CANCELLING

    async def _look(self, *, note: bool = False) -> None:
        """See whether it was cancelled, and write how far it is, at most once in ``NOTE_SECONDS`` unless told to."""
        now = time.monotonic()
        note = note or now - self._noted_at >= NOTE_SECONDS
        if note:
            self._noted_at = now
        self._record = await asyncio.to_thread(self._read, self._outcomes.counts() if note else {})

    def _read(self, counts: dict[str, int]) -> BatchRecord:
        store = self._services.batches
        if counts:
            store.note(self._record.id, **counts)
        record = store.get(self._record.id)
        assert record is not None
        return record

    async def _answer(self, line: BatchLine) -> None:
        pause = self._first_pause
        while True:
            answer = self._refusal(line) or await post(self._app, self._record.endpoint, line.body, self._caller)
            if answer.status not in RETRIED:
                self._outcomes.add(line.custom_id, answer.status, answer.request_id, answer.body)
                return
            await asyncio.sleep(pause)
            if self._is_over():
                return
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _refusal(self, line: BatchLine) -> Answer | None:
        """A line has no stream to send."""
        if not line.body.get("stream"):
            return None
        error = InvalidRequest("Streaming is not supported in batches.", code="unsupported_value", param="stream")
        return Answer(http_error_of(error).status, new_request_id(), error_body(error))
