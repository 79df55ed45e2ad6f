"""The process that trains jobs on one base: each in a thread of its own, all of them taking turns on one floor.

What it does: takes orders from the worker's pipe as long as it lives, tells the worker of each attempt that is over, ends when the worker
says so or stops. A job that fails, is paused or cancelled ends its own thread alone. What it does not: choose jobs (``group_lane.py``) or
compute outside of the floor. Forked by the worker's forkserver, which has torch preloaded.
"""

import os
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection

from luthier.jobs.queue import JobQueue
from luthier.storage.database import Database
from luthier.training.memory import share_one_heap
from luthier.worker.admission import Admission
from luthier.worker.attempt import Attempt
from luthier.worker.child import NICENESS, leave, log_to
from luthier.worker.floor import Seat, SharedFloor
from luthier.worker.orders import EXIT_LEASE_LOST, EXIT_OK, EXIT_ORPHAN, ChildOrder, MemberOver

_SWITCH_SECONDS = 0.0005
"""A thread that reads a file in Python must not hold up the one that computes, which asks for Python's lock at every operator."""


def run_group_child(order: ChildOrder, worker: Connection) -> None:
    """The whole life of the forked process; never returns."""
    log_to(order)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the whole group; the worker tells us itself
    share_one_heap()
    os.nice(NICENESS)
    sys.setswitchinterval(_SWITCH_SECONDS)
    group = Group(order, worker)
    signal.signal(signal.SIGTERM, lambda _signal, _frame: group.stop())
    group.run(order)
    leave(EXIT_OK)


class Group:
    """The jobs of one process.

    Args:
        order: the first one; all of them have its settings.
        worker: the way to and from the worker: orders come, None to end; ``MemberOver`` goes.
    """

    def __init__(self, order: ChildOrder, worker: Connection) -> None:
        self._worker = worker
        self._database = Database(order.settings.state_database)
        self.floor = SharedFloor()
        self._admission = Admission(self.floor.process_bytes, JobQueue(self._database))
        self._members: dict[str, Attempt] = {}
        self._arrivals = 0
        self._lock = threading.RLock()
        self._telling = threading.Lock()
        self._stopping = threading.Event()

    def run(self, order: ChildOrder) -> None:
        """Train this job and those that come, until the worker says that no more come or that it stops."""
        self.join(order)
        threading.Thread(target=self._listen, name="orders", daemon=True).start()
        self.floor.work()
        self._database.close()

    def stop(self) -> None:
        """All jobs save their state at their next step boundary; then the process ends. From a signal's handler."""
        self._stopping.set()
        for attempt in list(self._members.values()):
            attempt.stop()
        if not self._members:
            self.floor.close()

    def join(self, order: ChildOrder) -> None:
        """A job comes."""
        with self._lock:
            self._arrivals += 1
            came, alone = self._arrivals, not self._members
            seat = Seat(
                self.floor,
                name=order.job.id,
                project=order.project_id,
                weight=2.0**order.priority,
                company=lambda: int(not alone) + self._arrivals - came,
            )
            attempt = Attempt(order, self._database, seat, end_by_force=lambda: self._end_by_force(order.job.id))
            self._members[order.job.id] = attempt
            if self._stopping.is_set():
                attempt.stop()
        threading.Thread(target=self._attempt, args=(order, attempt, seat), name=order.job.id, daemon=True).start()

    def _attempt(self, order: ChildOrder, attempt: Attempt, seat: Seat) -> None:
        crashed = False
        try:
            attempt.run(lambda context: self._admission.enter(context, self._stopping.wait))
        except Exception:  # noqa: BLE001 - the edge of a job: the worker counts the crash, the log keeps the text
            crashed = True
            with (order.settings.run_dir(order.job.id) / "child.log").open("a", encoding="utf-8") as log:
                traceback.print_exc(file=log)
        seat.leave()
        self._admission.leave(order.job.id)
        with self._lock:
            del self._members[order.job.id]
            last = not self._members
        self._tell(MemberOver(job_id=order.job.id, fence=order.job.fence, crashed=crashed, seconds=seat.seconds))
        if last and self._stopping.is_set():
            self.floor.close()

    def _tell(self, news: MemberOver) -> None:
        with self._telling:
            try:
                self._worker.send(news)
            except OSError:
                os._exit(EXIT_ORPHAN)

    def _listen(self) -> None:
        """Orders from the worker; end-of-file means that the worker is gone."""
        while True:
            try:
                order = self._worker.recv()
            except (EOFError, OSError):
                os._exit(EXIT_ORPHAN)
            if order is None:
                self.floor.close()
                return
            self.join(order)

    def _end_by_force(self, job_id: str) -> None:
        """A job that is no longer ours does not stop. Waits its thread for something, it may; is it its turn, the process is stuck."""
        if self.floor.current == job_id:
            os._exit(EXIT_LEASE_LOST)
