"""One attempt at one job: builds a ``RunContext``, keeps the lease, runs a pipeline, turns an expected failure into a failed job.

What it does not: decide the order of the stages (``pipelines.py``), own the process (``child.py``, ``group_child.py``) or retry
(``lanes.py``, ``group_lane.py``).
"""

import errno
import time
from collections.abc import Callable

import torch

from luthier.core.errors import JobFailure, StaleLease, StorageFull, Unavailable
from luthier.core.jobs import Job, JobStatus, NewEvent
from luthier.core.stage import Stage
from luthier.jobs import lifecycle
from luthier.jobs.queue import JobQueue
from luthier.storage.blobs import BlobStore
from luthier.storage.database import Database
from luthier.storage.jobs import JobStore
from luthier.storage.models import ModelStore
from luthier.trace.events import RunFinished, RunStarted
from luthier.trace.levels import LevelWriter
from luthier.trace.reader import read_events
from luthier.trace.story import StoryWriter
from luthier.trace.tracer import Tracer
from luthier.trace.writer import TraceWriter
from luthier.worker import pipelines
from luthier.worker.context import RunContext
from luthier.worker.engine_link import EngineLink
from luthier.worker.floor import Floor
from luthier.worker.heartbeat import Heartbeat
from luthier.worker.orders import ChildOrder
from luthier.worker.patient_engine import PatientEngine
from luthier.worker.recorder import JobRecorder, is_whole

_NO_ROOM = (
    "The device's memory does not hold this job. Use an adapter instead of all weights, a smaller rank or max_length, "
    '"quantization": "nf4" or a smaller base.'
)


class Attempt:
    """One attempt. ``stop`` may be called by any thread, also before ``run``."""

    def __init__(self, order: ChildOrder, database: Database, floor: Floor, *, end_by_force: Callable[[], None] | None = None) -> None:
        """``end_by_force``: see ``Heartbeat``."""
        self._order, self._floor = order, floor
        self._store, self._queue = JobStore(database), JobQueue(database)
        self._models = ModelStore(database)
        self._heartbeat = Heartbeat(self._queue, self._store, order.job, end_by_force=end_by_force)

    def stop(self) -> None:
        """The server stops: the run ends at its next step boundary, with a resume state."""
        self._heartbeat.shutdown.set()

    def run(self, admit: Callable[[RunContext], None] = lambda _context: None) -> None:
        """Run the pipeline to its end, or until the lease is over.

        Args:
            admit: called first; returns when the job may begin.

        Raises:
            Exception: nobody expected it; the lease is still held.
        """
        self._heartbeat.start()
        try:
            self._run(admit)
        finally:
            self._heartbeat.stop()  # of a run that crashed too: the lease must end

    def _run(self, admit: Callable[[RunContext], None]) -> None:
        order, job, heartbeat = self._order, self._order.job, self._heartbeat
        run_dir = order.settings.run_dir(job.id)
        run_dir.mkdir(parents=True, exist_ok=True)
        writer, levels = TraceWriter(run_dir / "trace.jsonl"), LevelWriter(run_dir)
        story = StoryWriter(run_dir, next_id=writer.next_id)
        step, whole = last_announced(self._store, job)
        recorder = JobRecorder(
            self._store, job, announced_step=step, announced_whole=whole, lost=heartbeat.lost, stretch=self._floor.stretch
        )
        earlier, _ = read_events(run_dir / "trace.jsonl")
        recorder.refill(earlier)
        attempt = 1 + sum(isinstance(event.payload, RunStarted) for event in earlier)
        tracer = Tracer(job.id, (story, writer, levels, recorder), attempt=attempt, next_id=writer.next_id)
        context = RunContext(
            settings=order.settings,
            job=job,
            attempt=attempt,
            run_dir=run_dir,
            tracer=tracer,
            recorder=recorder,
            engine=PatientEngine(EngineLink(order.engine_socket, order.engine_secret), heartbeat.should_stop),
            jobs=self._store,
            models=self._models,
            blobs=BlobStore(order.settings.blobs_dir),
            should_stop=heartbeat.should_stop,
            now=time.time,
            floor=self._floor,
        )
        try:
            _carry_out(context, order.lane, admit)
        except Unavailable:
            if not heartbeat.should_stop():
                raise  # otherwise the server is stopping: the next one goes on from the resume state
        except StaleLease:
            heartbeat.lost.set()
        finally:
            recorder.close()
            heartbeat.stop()
            if heartbeat.lost.is_set():
                _say_cancelled(context, Tracer(job.id, (story, writer), attempt=attempt, next_id=writer.next_id))
            writer.close()
            levels.close()
            story.close()
        if not heartbeat.lost.is_set():
            self._queue.release(job.id, job.fence)


def _carry_out(context: RunContext, lane: str, admit: Callable[[RunContext], None]) -> None:
    try:
        admit(context)
        pipelines.LANES[lane](context)
    except JobFailure as failure:
        _fail(context, failure)  # refused as any other write when the job was taken away meanwhile
    except torch.OutOfMemoryError:
        # Outside of a step, which is cut smaller first (``training/forwards.py``). Trying again would end alike.
        _fail(context, JobFailure(_NO_ROOM, code="insufficient_memory"))
    except (StorageFull, OSError) as error:
        trouble = disk_trouble(error)
        if trouble is None:
            raise
        _pause(context, trouble)


def disk_trouble(error: StorageFull | OSError) -> str | None:
    """Why a job cannot write, in words; None for what somebody else than the disk's owner must mend."""
    number = errno.ENOSPC if isinstance(error, StorageFull) else error.errno
    return {errno.ENOSPC: "full", errno.EDQUOT: "full", errno.EROFS: "read-only"}.get(number or 0)


def _pause(context: RunContext, trouble: str) -> None:
    """A job that cannot write waits for a person, with the newest state that it could write; failing would throw that away.

    Raises:
        StorageFull, Unavailable: the database cannot be written either; the attempt counts as a crash, and the job is taken again.
    """
    message = f"The job has been paused because the server's disk is {trouble}. Mend that and resume it; it goes on from its newest state."
    context.recorder.write()
    context.jobs.decide(context.job.id, lambda job: lifecycle.paused(job, context.now(), message=message), fence=context.job.fence)


def last_announced(store: JobStore, job: Job) -> tuple[int, bool]:
    """The last step that an earlier attempt made public (0 when there is none), and whether with its epoch's validation."""
    after: str | None = None
    while True:
        page = store.events(job.id, limit=100, after=after)
        for event in page.items:
            if event.type == "metrics" and event.data:
                return int(event.data["step"]), is_whole(event)
        if not page.has_more or not page.items:
            return 0, True
        after = page.items[-1].id


def _fail(context: RunContext, failure: JobFailure) -> None:
    error = {"code": failure.code or "server_error", "message": failure.message, "param": failure.param}
    context.tracer.emit(Stage.TRAINING, RunFinished(status=JobStatus.FAILED.value, error=error))
    now = int(context.now())
    changes = {"status": JobStatus.FAILED, "error": error, "finished_at": now, "estimated_finish": None}
    context.recorder.write(changes, events=[NewEvent(created_at=now, level="error", message=failure.message)])


def _say_cancelled(context: RunContext, log_only: Tracer) -> None:
    """The database has already moved on; the run's own log says why it ends here."""
    current = context.jobs.get(context.job.id)
    if current is not None and current.status is JobStatus.CANCELLED:
        log_only.emit(Stage.TRAINING, RunFinished(status=JobStatus.CANCELLED.value))
