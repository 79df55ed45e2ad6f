"""The process of one attempt at a dataset task.

What it does: its own log and connection, an end with its worker, an exit code. What it does not: know the work
(``dataset_work.py``) or retry (``data_lane.py``). Forked by the worker's fork server. It may be killed at any moment: what it has not
handed over in one transaction was never there.
"""

import gc
import os
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection

from luthier.core.dataset_tasks import DatasetKind
from luthier.storage.database import Database
from luthier.worker.dataset_work import perform
from luthier.worker.memory_bound import IMPORT_MEMORY_BYTES, bound_memory
from luthier.worker.orders import EXIT_CRASH, EXIT_LEASE_LOST, EXIT_OK, EXIT_ORPHAN, DatasetOrder

LOG_FILE = "child.log"
NICENESS = 5
"""Serving comes first."""


def run_data_child(order: DatasetOrder, alive: Connection) -> None:
    """The whole life of the forked process; never returns."""
    folder = order.settings.datasets_dir / order.task.id
    folder.mkdir(parents=True, exist_ok=True)
    log = (folder / LOG_FILE).open("ab", buffering=0)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    # Ctrl-C in a terminal reaches the whole group; the worker ends us itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_worker, args=(alive,), name="orphan-watch", daemon=True).start()
    os.nice(NICENESS)
    # Parsed rows have no cycles and go at once: looking for garbage among them costs a quarter of a check's time.
    gc.set_threshold(100_000)
    if order.task.kind is DatasetKind.IMPORT:
        bound_memory(IMPORT_MEMORY_BYTES)
    try:
        database = Database(order.settings.state_database)
        perform(order.task, order.settings, database, on_lost=lambda: os._exit(EXIT_LEASE_LOST))
        database.close()
        code = EXIT_OK
    except Exception:  # noqa: BLE001 - the process's edge: the worker counts the crash, the log keeps the text
        traceback.print_exc()
        code = EXIT_CRASH
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_with_worker(alive: Connection) -> None:
    """Block on the worker's pipe; end-of-file means that the worker is gone."""
    try:
        alive.recv_bytes()
    except (EOFError, OSError):
        os._exit(EXIT_ORPHAN)
