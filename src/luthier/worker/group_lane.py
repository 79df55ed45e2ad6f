"""The worker's training lane: processes that each train several small jobs on one base, or one job alone.

What it does: leases jobs in fair order, hands each to a process that has its base and room for it, or starts one; counts the crash of a
process for all jobs in it. What it does not: touch a tensor, or decide about memory (``admission.py`` does, in the process). Called by
``main.py``.

A job may pass one before it that has no place, so that a small job need not wait for a large one; but not for longer than
``PASS_SECONDS``: then nobody joins any more until the one before has its place.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

from luthier.core.jobs import Job, JobStatus, ModelKind
from luthier.core.settings import Settings
from luthier.core.specs import TuningMethod
from luthier.jobs.queue import JobQueue, WaitingJob
from luthier.storage.blobs import BlobStore
from luthier.storage.jobs import JobStore
from luthier.storage.models import ModelStore
from luthier.storage.workers import WorkerStore
from luthier.worker.entry import carry_out_group
from luthier.worker.fair_share import RecentUse
from luthier.worker.lanes import BEAT_SECONDS, IDLE_SECONDS, LATER, STOP_SECONDS, note_crash
from luthier.worker.loggers.followers import Followers
from luthier.worker.orders import EXIT_OK, ChildOrder, MemberOver

log = logging.getLogger("luthier.worker")

NAME = "train"
STATUSES = (JobStatus.RUNNING, JobStatus.QUEUED)
SHARED_METHODS = ("supervised", "dpo")
MAX_FILE_BYTES = 32 * 1024 * 1024
"""A job with larger files trains alone: reading them would take time from the others of its process."""
PASS_SECONDS = 600.0
MAX_PRIORITY = 2


@dataclass(slots=True)
class Training:
    """One training process."""

    process: BaseProcess
    pipe: Connection
    company: str | None
    """Which jobs may join (``GroupLane._company``); None: nobody."""
    members: dict[str, Job] = field(default_factory=dict)
    projects: dict[str, str] = field(default_factory=dict)
    dismissed: bool = False
    terminated_at: float | None = None


class GroupLane:
    """The lane's loop, in a thread of its own."""

    def __init__(
        self,
        *,
        settings: Settings,
        owner: str,
        context: ForkServerContext,
        queue: JobQueue,
        jobs: JobStore,
        models: ModelStore,
        workers: WorkerStore,
        followers: Followers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._owner, self._context = settings, owner, context
        self._queue, self._jobs, self._models, self._workers = queue, jobs, models, workers
        self._blobs = BlobStore(settings.blobs_dir)
        self._followers = followers
        self._clock = clock
        self._use = RecentUse()
        self._processes: list[Training] = []
        self._passed: dict[str, float] = {}
        """Jobs that had no place, and since when."""
        self._stopping = threading.Event()
        self._next_beat = 0.0
        self.thread = threading.Thread(target=self._loop, name=f"lane-{NAME}", daemon=True)

    def stop(self) -> None:
        """End after all jobs in hand have saved their state."""
        self._stopping.set()

    def _loop(self) -> None:
        while self._processes or not self._stopping.is_set():
            try:
                self._beat()
                self._read_news()
                if self._stopping.is_set():
                    self._end_processes()
                else:
                    while self._place_one():
                        continue
            except LATER as busy:
                log.warning("the training lane goes on later: %s", busy.message)
            self._dismiss_idle()
            self._wait()

    def _beat(self) -> None:
        if time.monotonic() >= self._next_beat:
            self._workers.beat(self._owner, NAME, time.time())
            self._next_beat = time.monotonic() + BEAT_SECONDS

    def _wait(self) -> None:
        """Until a process says something or ends, or it is time to look for jobs."""
        doors = [training.pipe for training in self._processes] + [training.process.sentinel for training in self._processes]
        if doors:
            wait(doors, timeout=IDLE_SECONDS)
        else:
            self._stopping.wait(IDLE_SECONDS)

    # ------------------------------------------------------------------------------------------------- jobs to processes

    def _place_one(self) -> bool:
        """Give one waiting job to a process; False when none can be."""
        waiting = self._queue.waiting(STATUSES)
        here = {job_id for training in self._processes for job_id in training.members}
        self._passed = {w.job.id: self._passed[w.job.id] for w in waiting if w.job.id in self._passed}
        for candidate in sorted(waiting, key=self._order):
            if candidate.job.id in here:
                continue  # paused or lost, and resumed before its thread was over
            company = self._company(candidate.job)
            training = next((t for t in self._processes if company is not None and self._has_room(t, company)), None)
            if training is None and len(self._processes) >= self._settings.train_processes:
                since = self._passed.setdefault(candidate.job.id, self._clock())
                if self._clock() - since > PASS_SECONDS:
                    return False
                continue
            job = self._queue.take(candidate.job.id, self._owner)
            if job is not None:
                self._hand_over(candidate, job, company, training)
                return True
        return False

    def _order(self, waiting: WaitingJob) -> tuple[int, int, float]:
        """As the queue says; between two projects whose turn it is alike, the one that has lately had less."""
        return STATUSES.index(waiting.job.status), waiting.turn, self._use.of(waiting.project_id, self._clock())

    def _has_room(self, training: Training, company: str) -> bool:
        # One that is empty is about to be dismissed: the next job begins in a fresh one.
        open_to = training.company == company and not training.dismissed and training.process.is_alive()
        return open_to and 0 < len(training.members) < self._settings.group_jobs

    def _company(self, job: Job) -> str | None:
        """The base that the job can share with others, and its method; None when it trains alone.

        One method to a process: pairs may read their base in other numbers, and then the process would hold it twice.
        One whose process died under it without progress is alone until it has some: what kills processes then kills its own.
        """
        if job.attempts > 0 or job.method not in SHARED_METHODS or job.options.get("adapter") == TuningMethod.FULL:
            return None
        if job.options.get("range_test"):
            return None  # its test is one long turn, for which others would wait
        if len(self._settings.devices) > 1:
            return None  # each job has all devices to itself
        files = (job.training_sha256, job.validation_sha256)
        if any(self._size(sha256) > MAX_FILE_BYTES for sha256 in files if sha256):
            return None
        parent = self._models.get(job.parent_model) if job.parent_model else None
        base = parent.name if parent is not None and parent.kind is ModelKind.FULL else job.base
        # A base in 4 bits has other numbers than the same base as it is.
        quantization = job.options.get("quantization")
        return f"{base} {f'in {quantization} ' if quantization else ''}by {job.method}"

    def _size(self, sha256: str) -> int:
        path = self._blobs.path(sha256)
        return path.stat().st_size if path.exists() else 0

    def _hand_over(self, candidate: WaitingJob, job: Job, company: str | None, training: Training | None) -> None:
        order = ChildOrder(
            settings=self._settings,
            job=job,
            lane=NAME,
            engine_socket=os.environ["LUTHIER_ENGINE_SOCKET"],
            engine_secret=os.environ["LUTHIER_ENGINE_SECRET"],
            project_id=candidate.project_id,
            priority=max(-MAX_PRIORITY, min(MAX_PRIORITY, candidate.priority)),
        )
        self._followers.begin(job)
        if training is None:
            training = self._start(order, company)
        else:
            try:
                training.pipe.send(order)
            except OSError:
                log.warning("the process of %s has just ended", company)  # counted with the others in it
        training.members[job.id] = job
        training.projects[job.id] = candidate.project_id
        log.info(
            "train: job %s in process %s with %s others (fence %s)", job.id, training.process.pid, len(training.members) - 1, job.fence
        )

    def _start(self, order: ChildOrder, company: str | None) -> Training:
        here, there = self._context.Pipe()
        process = self._context.Process(target=carry_out_group, args=(order, there), name=f"luthier-{NAME}")
        process.start()
        there.close()
        training = Training(process=process, pipe=here, company=company)
        self._processes.append(training)
        return training

    # ------------------------------------------------------------------------------------------------- news of processes

    def _read_news(self) -> None:
        for training in list(self._processes):
            ended = not training.process.is_alive()  # asked first, so that its last words are read
            self._read(training)
            if ended:
                self._bury(training)

    def _read(self, training: Training) -> None:
        try:
            while training.pipe.poll():
                news = training.pipe.recv()
                assert isinstance(news, MemberOver)
                job, project = training.members.pop(news.job_id), training.projects.pop(news.job_id)
                self._followers.end(job.id)
                self._use.add(project, news.seconds, self._clock())
                if news.crashed:
                    note_crash(self._queue, self._jobs, job, "an error in its thread")
        except (EOFError, OSError):
            return

    def _bury(self, training: Training) -> None:
        self._processes.remove(training)
        training.pipe.close()
        for job_id in training.members:
            self._followers.end(job_id)
        code = training.process.exitcode
        if code == EXIT_OK or self._stopping.is_set():
            return
        for job in training.members.values():
            note_crash(self._queue, self._jobs, job, code)

    def _dismiss_idle(self) -> None:
        """A process without a job ends: the next one begins in a fresh one."""
        for training in self._processes:
            if training.members or training.dismissed:
                continue
            training.dismissed = True
            try:
                training.pipe.send(None)
            except OSError:
                log.info("process %s has ended by itself", training.process.pid)

    def _end_processes(self) -> None:
        """The worker stops: jobs save their state; a process that takes too long is killed."""
        for training in self._processes:
            if training.terminated_at is None:
                training.process.terminate()
                training.terminated_at = time.monotonic()
            elif time.monotonic() > training.terminated_at + STOP_SECONDS:
                training.process.kill()
