"""Keeps a child's lease alive and tells its loop when to stop.

What it does: a thread of its own renews the lease every three seconds and looks twice a second whether the fence is still
the child's. What it does not: stop the loop by force, unless the loop does not obey within ``GRACE_SECONDS`` after the
lease was lost; one that obeyed has ``SAVE_SECONDS`` more, for what it still writes. Called by ``worker/attempt.py``.
"""

import os
import threading
import time
from collections.abc import Callable

from luthier.core.errors import StaleLease, Unavailable
from luthier.core.jobs import Job
from luthier.jobs.queue import JobQueue
from luthier.storage.jobs import JobStore
from luthier.worker.orders import EXIT_LEASE_LOST

RENEW_SECONDS = 3.0
LOOK_SECONDS = 0.5
GRACE_SECONDS = 20.0
SAVE_SECONDS = 280.0
"""For a resume state and the checkpoint of a pause: with all weights of a large model that is many gigabytes."""


class Heartbeat:
    """The child's pulse. ``lost`` is set when the lease is another's; ``stopping`` also when the server stops."""

    def __init__(self, queue: JobQueue, store: JobStore, job: Job, *, end_by_force: Callable[[], None] | None = None) -> None:
        """``end_by_force``: what is done about a loop that does not obey; without it, its process ends."""
        self._queue, self._store, self._job = queue, store, job
        self._end_by_force = end_by_force or (lambda: os._exit(EXIT_LEASE_LOST))
        self.lost = threading.Event()
        self.shutdown = threading.Event()
        self._noticed = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def stop(self) -> None:
        """End the pulse; the lease stays until it is released or runs out."""
        self._done.set()
        self._thread.join(timeout=5.0)

    def should_stop(self) -> bool:
        """True when the loop must end at its next step boundary."""
        must_stop = self.lost.is_set() or self.shutdown.is_set()
        if must_stop:
            self._noticed.set()
        return must_stop

    def _beat(self) -> None:
        next_renewal = time.monotonic() + RENEW_SECONDS
        while not self._done.wait(LOOK_SECONDS):
            try:
                if time.monotonic() >= next_renewal:
                    self._queue.renew(self._job.id, self._job.fence)
                    next_renewal = time.monotonic() + RENEW_SECONDS
                else:
                    current = self._store.get(self._job.id)
                    if current is None or current.fence != self._job.fence:
                        raise StaleLease(f"The lease of {self._job.id} has passed on.")
            except Unavailable:
                continue  # a locked database: three beats fit into one lease
            except StaleLease:
                self.lost.set()
                if self._done.wait(GRACE_SECONDS) or (self._noticed.is_set() and self._done.wait(SAVE_SECONDS)):
                    return
                self._end_by_force()
                return
