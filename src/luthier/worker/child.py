"""The process of one attempt at one job: opens its own connections, runs a pipeline, ends with an exit code.

What it does: builds a ``RunContext``, keeps the lease, turns an expected failure into a failed job. What it does not:
decide the order of the stages (``pipelines.py``) or retry (``lanes.py``). Forked by the worker's forkserver, which has
torch preloaded, so the first step comes seconds after a job's creation.
"""

import errno
import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection

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
from luthier.trace.reader import read_events
from luthier.trace.tracer import Tracer
from luthier.trace.writer import TraceWriter
from luthier.worker import pipelines
from luthier.worker.context import RunContext
from luthier.worker.engine_link import EngineLink
from luthier.worker.heartbeat import Heartbeat
from luthier.worker.orders import EXIT_CRASH, EXIT_OK, EXIT_ORPHAN, ChildOrder
from luthier.worker.patient_engine import PatientEngine
from luthier.worker.recorder import JobRecorder, is_whole

# Training yields to serving and to the rest of the machine.
NICENESS = 5


def run_child(order: ChildOrder, alive: Connection) -> None:
    """The whole life of the forked process; never returns."""
    run_dir = order.settings.run_dir(order.job.id)
    run_dir.mkdir(parents=True, exist_ok=True)
    log = (run_dir / "child.log").open("ab", buffering=0)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    threading.Thread(target=_exit_with_worker, args=(alive,), name="orphan-watch", daemon=True).start()
    os.nice(NICENESS)
    try:
        code = _attempt(order)
    except Exception:  # noqa: BLE001 - the process's edge: the worker counts the crash, the log keeps the text
        traceback.print_exc()
        code = EXIT_CRASH
    sys.stdout.flush()
    sys.stderr.flush()
    # No interpreter shutdown: torch's thread pools make it slow, and everything durable is already on disk.
    os._exit(code)


def _exit_with_worker(alive: Connection) -> None:
    """Block on the worker's pipe; end-of-file means that the worker is gone."""
    try:
        alive.recv_bytes()
    except (EOFError, OSError):
        os._exit(EXIT_ORPHAN)


def _attempt(order: ChildOrder) -> int:
    settings, job = order.settings, order.job
    database = Database(settings.state_database)
    store, queue = JobStore(database), JobQueue(database)
    heartbeat = Heartbeat(queue, store, job)
    signal.signal(signal.SIGTERM, lambda _signal, _frame: heartbeat.shutdown.set())
    heartbeat.start()
    run_dir = settings.run_dir(job.id)
    writer = TraceWriter(run_dir / "trace.jsonl")
    step, whole = last_announced(store, job)
    recorder = JobRecorder(store, job, announced_step=step, announced_whole=whole, lost=heartbeat.lost)
    earlier, _ = read_events(run_dir / "trace.jsonl")
    recorder.refill(earlier)
    attempt = 1 + sum(isinstance(event.payload, RunStarted) for event in earlier)
    tracer = Tracer(job.id, (writer, recorder), attempt=attempt, next_id=writer.next_id)
    context = RunContext(
        settings=settings,
        job=job,
        attempt=attempt,
        run_dir=run_dir,
        tracer=tracer,
        recorder=recorder,
        engine=PatientEngine(EngineLink(order.engine_socket, order.engine_secret), heartbeat.should_stop),
        jobs=store,
        models=ModelStore(database),
        blobs=BlobStore(settings.blobs_dir),
        should_stop=heartbeat.should_stop,
        now=time.time,
    )
    try:
        _carry_out(context, order.lane)
    except Unavailable:
        if not heartbeat.should_stop():
            raise  # otherwise the server is stopping: the next one goes on from the resume state
    except StaleLease:
        heartbeat.lost.set()
    finally:
        recorder.close()
        heartbeat.stop()
        if heartbeat.lost.is_set():
            _say_cancelled(context, Tracer(job.id, (writer,), attempt=attempt, next_id=writer.next_id))
        writer.close()
    if not heartbeat.lost.is_set():
        queue.release(job.id, job.fence)
    database.close()
    return EXIT_OK


def _carry_out(context: RunContext, lane: str) -> None:
    try:
        pipelines.LANES[lane](context)
    except JobFailure as failure:
        _fail(context, failure)  # refused as any other write when the job was taken away meanwhile
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
