"""The worker's lane that checks files: leases a job, runs a child for it, and reads its exit code.

What it does: one child at a time, beside those that train (``group_lane.py``), so that file faults show within seconds. What it does
not: touch a tensor or a row of the job other than through ``jobs/queue.py``. Called by ``worker/main.py``.
"""

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

from luthier.core.errors import StaleLease, StorageFull, Unavailable
from luthier.core.jobs import Job, JobStatus
from luthier.core.settings import Settings
from luthier.jobs.queue import JobQueue
from luthier.storage.jobs import JobStore
from luthier.storage.workers import WorkerStore
from luthier.worker.entry import carry_out
from luthier.worker.orders import EXIT_OK, ChildOrder

log = logging.getLogger("luthier.worker")

LATER = (Unavailable, StorageFull)
"""What a lane lives through: the database is busy, or the disk is full; both may pass."""
IDLE_SECONDS = 0.2
BEAT_SECONDS = 2.0
STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What a lane leases, in order of preference."""

    name: str
    statuses: tuple[JobStatus, ...]


LANES: Sequence[Lane] = (Lane(name="validate", statuses=(JobStatus.VALIDATING_FILES,)),)


def forkserver() -> ForkServerContext:
    """A fork server with the workshop imported: children start in milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["luthier.worker.preload"])
    return context


def watch(process: BaseProcess, stopping: threading.Event, beat: Callable[[], None]) -> None:
    """Until a child is over: give signs of life; once the worker stops, end the child, by force where it does not obey."""
    deadline: float | None = None
    while process.is_alive():
        process.join(timeout=BEAT_SECONDS / 4)
        try:
            beat()
        except LATER as busy:
            log.warning("no sign of life: %s", busy.message)
        if stopping.is_set() and deadline is None:
            process.terminate()  # SIGTERM: a job's child saves its state at the next step boundary
            deadline = time.monotonic() + STOP_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            process.kill()


class LaneRunner:
    """One lane's loop, in a thread of its own."""

    def __init__(
        self,
        lane: Lane,
        *,
        settings: Settings,
        owner: str,
        context: ForkServerContext,
        queue: JobQueue,
        jobs: JobStore,
        workers: WorkerStore,
    ) -> None:
        self._lane, self._settings, self._owner = lane, settings, owner
        self._context, self._queue, self._jobs, self._workers = context, queue, jobs, workers
        self._stopping = threading.Event()
        self._next_beat = 0.0
        self.thread = threading.Thread(target=self._loop, name=f"lane-{lane.name}", daemon=True)

    def stop(self) -> None:
        """End after the child in hand has saved its state."""
        self._stopping.set()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                self._beat()
                job = self._queue.lease(self._owner, self._lane.statuses)
            except LATER as busy:
                log.warning("no job can be taken: %s", busy.message)
                job = None
            if job is None:
                self._stopping.wait(IDLE_SECONDS)
            else:
                self._run(job)

    def _beat(self) -> None:
        if time.monotonic() >= self._next_beat:
            self._workers.beat(self._owner, self._lane.name, time.time())
            self._next_beat = time.monotonic() + BEAT_SECONDS

    def _run(self, job: Job) -> None:
        order = ChildOrder(
            settings=self._settings,
            job=job,
            lane=self._lane.name,
            engine_socket=os.environ["LUTHIER_ENGINE_SOCKET"],
            engine_secret=os.environ["LUTHIER_ENGINE_SECRET"],
        )
        alive_here, alive_there = self._context.Pipe()
        process = self._context.Process(target=carry_out, args=(order, alive_there), name=f"luthier-{self._lane.name}")
        process.start()
        alive_there.close()
        log.info("%s: job %s in process %s (fence %s)", self._lane.name, job.id, process.pid, job.fence)
        watch(process, self._stopping, self._beat)
        alive_here.close()
        if process.exitcode != EXIT_OK and not self._stopping.is_set():
            note_crash(self._queue, self._jobs, job, process.exitcode)


def note_crash(queue: JobQueue, jobs: JobStore, job: Job, how: object) -> None:
    """Count the death of a job's process, or of its thread in one; ``how`` is for the log."""
    current = jobs.get(job.id)
    progressed = current is not None and current.progress_step > job.progress_step
    log.error("job %s: its process ended with %s (progressed: %s)", job.id, how, progressed)
    try:
        queue.record_crash(job.id, job.fence, progressed=progressed)
    except StaleLease:
        log.info("job %s had already passed on", job.id)
    except LATER as busy:  # its lease runs out, and it is taken again
        log.warning("the crash of %s is not counted: %s", job.id, busy.message)
