"""The worker's two lanes for dataset tasks: small ones, which never wait behind a large one, and all others.

What it does: leases a task, runs a child for it, and reads its exit code; one child at a time per lane. What it does not: touch a
row of data. Called by ``worker/main.py``.
"""

import logging
import threading
import time
from multiprocessing.context import ForkServerContext

from luthier.core.dataset_tasks import DatasetTask
from luthier.core.errors import StaleLease
from luthier.core.settings import Settings
from luthier.storage.database import ChangeWatch
from luthier.storage.dataset_tasks import DatasetTaskStore
from luthier.storage.workers import WorkerStore
from luthier.worker.entry import carry_out_task
from luthier.worker.lanes import BEAT_SECONDS, LATER, watch
from luthier.worker.orders import EXIT_LEASE_LOST, EXIT_OK, DatasetOrder
from luthier.worker.task_folder import clear_work

log = logging.getLogger("luthier.worker")

IDLE_SECONDS = 0.03
"""A request waits for its answer: a preview must feel instant."""
LOOK_SECONDS = 1.0
"""Without a change in the database it is looked at this often all the same: a lease may have run out."""


class DataLane:
    """One lane's loop, in a thread of its own."""

    def __init__(
        self,
        *,
        quick: bool,
        settings: Settings,
        owner: str,
        context: ForkServerContext,
        tasks: DatasetTaskStore,
        workers: WorkerStore,
    ) -> None:
        self._quick, self._settings, self._owner, self._context = quick, settings, owner, context
        self._tasks, self._workers = tasks, workers
        self._name = "data-quick" if quick else "data"
        self._stopping = threading.Event()
        self._changes = ChangeWatch(settings.state_database)
        self._next_beat = self._next_look = 0.0
        self.thread = threading.Thread(target=self._loop, name=f"lane-{self._name}", daemon=True)

    def stop(self) -> None:
        """End, and the child in hand with it: its task waits for the next start."""
        self._stopping.set()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                self._beat()
                task = self._next_task()
            except LATER as busy:
                log.warning("no task can be taken: %s", busy.message)
                task = None
            if task is None:
                self._stopping.wait(IDLE_SECONDS)
            else:
                self._run(task)
        self._changes.close()

    def _next_task(self) -> DatasetTask | None:
        if not self._changes.changed() and time.monotonic() < self._next_look:
            return None
        task = self._tasks.lease(self._owner, quick=self._quick)
        # A task may be followed by another at once.
        self._next_look = 0.0 if task is not None else time.monotonic() + LOOK_SECONDS
        return task

    def _beat(self) -> None:
        if time.monotonic() >= self._next_beat:
            self._workers.beat(self._owner, self._name, time.time())
            self._next_beat = time.monotonic() + BEAT_SECONDS

    def _run(self, task: DatasetTask) -> None:
        alive_here, alive_there = self._context.Pipe()
        order = DatasetOrder(settings=self._settings, task=task)
        process = self._context.Process(target=carry_out_task, args=(order, alive_there), name=f"luthier-{self._name}")
        process.start()
        alive_there.close()
        log.info("%s: task %s (%s) in process %s (fence %s)", self._name, task.id, task.kind, process.pid, task.fence)
        watch(process, self._stopping, self._beat)
        alive_here.close()
        clear_work(self._settings.datasets_dir / task.id)
        if process.exitcode not in (EXIT_OK, EXIT_LEASE_LOST) and not self._stopping.is_set():
            self._note_death(task, process.exitcode)

    def _note_death(self, task: DatasetTask, exit_code: int | None) -> None:
        log.error("task %s: its process ended with %s", task.id, exit_code)
        try:
            self._tasks.record_death(task.id, task.fence)
        except StaleLease:
            log.info("task %s had already passed on", task.id)
        except LATER as busy:  # its lease runs out, and it is taken again
            log.warning("the end of the process of %s is not counted: %s", task.id, busy.message)
