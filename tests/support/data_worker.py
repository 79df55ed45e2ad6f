"""The worker's data lanes in this process, without a fork: every dataset task is taken and done. Called by contract and unit tests."""

import threading
import time
from types import TracebackType

from luthier.core.settings import Settings
from luthier.storage.database import Database
from luthier.storage.dataset_tasks import DatasetTaskStore
from luthier.storage.workers import WorkerStore
from luthier.worker.dataset_work import perform


class DataWorker:
    """A thread that does tasks until it is stopped; a context manager."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = Database(settings.state_database)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="data-worker", daemon=True)

    def start(self) -> "DataWorker":
        """Begin."""
        self._beat()
        self._thread.start()
        return self

    def stop(self) -> None:
        """End after the task in hand."""
        self._stopping.set()
        self._thread.join(30)
        self._database.close()

    def __enter__(self) -> "DataWorker":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _beat(self) -> None:
        for lane in ("data", "data-quick"):
            WorkerStore(self._database).beat("owner-tests", lane, time.time())
        self._next_beat = time.monotonic() + 2.0

    def _work(self) -> None:
        tasks = DatasetTaskStore(self._database)
        while not self._stopping.is_set():
            if time.monotonic() > self._next_beat:
                self._beat()
            done = [run_one(tasks, self._settings, self._database, quick=quick) for quick in (True, False)]
            if not any(done):
                self._stopping.wait(0.01)


def run_one(tasks: DatasetTaskStore, settings: Settings, database: Database, *, quick: bool = True) -> bool:
    """Do the next waiting task; False when there is none."""
    task = tasks.lease("owner-tests", quick=quick)
    if task is None:
        return False
    perform(task, settings, database, on_lost=lambda: None)
    return True
