"""The worker process: ``python -m luthier.worker.main``, started by ``luthier serve``.

What it does: builds the lanes over one database and keeps them running until SIGTERM, or until its standard input ends
(its parent is gone: it exits at once, and its children with it); removes files that nobody needs at its start and every
hour. What it does not: run a stage itself; every attempt has its own process.
"""

import logging
import os
import signal
import sys
import threading
import time
from multiprocessing.forkserver import ensure_running

from luthier.core.errors import LuthierError
from luthier.core.ids import new_owner_id
from luthier.core.settings import Settings, from_environment
from luthier.jobs.queue import JobQueue
from luthier.preprocessing.cache import TokenCache
from luthier.storage.blobs import BlobStore
from luthier.storage.collection import collect_dataset_tasks, collect_unneeded
from luthier.storage.database import Database
from luthier.storage.dataset_tasks import DatasetTaskStore
from luthier.storage.files import referenced_blobs
from luthier.storage.jobs import JobStore
from luthier.storage.models import ModelStore
from luthier.storage.parts import PartFiles
from luthier.storage.workers import WorkerStore
from luthier.worker.data_lane import DataLane
from luthier.worker.group_lane import GroupLane
from luthier.worker.lanes import LANES, LaneRunner, forkserver
from luthier.worker.loggers.followers import Followers, event_writer
from luthier.worker.orders import EXIT_ORPHAN

COLLECT_SECONDS = 3600.0
"""Time between two searches for bytes on the disk that nobody needs any more."""
LOGGER_STOP_SECONDS = 2.0
"""What loggers have at the worker's end; the next worker goes on where they were."""
_LOG = logging.getLogger("luthier.worker")


def _exit_with_parent() -> None:
    """Block on standard input; end-of-file means that the server is gone."""
    while os.read(0, 4096):
        continue
    os._exit(EXIT_ORPHAN)


def _collect(settings: Settings, database: Database) -> None:
    try:
        collect_unneeded(database, BlobStore(settings.blobs_dir), PartFiles(settings.uploads_dir))
        cache = TokenCache(settings.tokens_dir, max_bytes=settings.token_cache_bytes)
        cache.trim(files=referenced_blobs(database, time.time()))
        collect_dataset_tasks(database, settings.datasets_dir, settings.dataset_task_days)
    except (LuthierError, OSError):  # jobs go on, and the next hour tries again
        _LOG.exception("removing unneeded files failed")


def main() -> None:
    """Run until told to stop."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = from_environment()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the group; the server tells us itself
    threading.Thread(target=_exit_with_parent, name="orphan-watch", daemon=True).start()

    database = Database(settings.state_database)
    queue, jobs, workers = JobQueue(database), JobStore(database), WorkerStore(database)
    tasks = DatasetTaskStore(database)
    # The data directory's lock is held by our server alone: leases of earlier processes are void.
    queue.abandon_leases()
    tasks.requeue_all()
    _collect(settings, database)
    context, owner = forkserver(), new_owner_id()
    # Start it now: the workshop's imports are done before the first job comes.
    ensure_running()
    followers = Followers(settings, event_writer(jobs))
    lanes: list[LaneRunner | GroupLane | DataLane] = [
        LaneRunner(lane, settings=settings, owner=owner, context=context, queue=queue, jobs=jobs, workers=workers) for lane in LANES
    ]
    models = ModelStore(database)
    lanes.append(
        GroupLane(
            settings=settings, owner=owner, context=context, queue=queue, jobs=jobs, models=models, workers=workers, followers=followers
        )
    )
    for quick in (True, False):
        lanes.append(DataLane(quick=quick, settings=settings, owner=owner, context=context, tasks=tasks, workers=workers))
    for lane in lanes:
        lane.thread.start()
    while not stopping.wait(COLLECT_SECONDS):
        _collect(settings, database)
    for lane in lanes:
        lane.stop()
    for lane in lanes:
        lane.thread.join()
    followers.stop(LOGGER_STOP_SECONDS)
    database.close()


if __name__ == "__main__":
    main()
