"""The process of one attempt at checking one job's files: opens its own connections, runs a pipeline, ends with an exit code.

What it does not: the attempt itself (``attempt.py``) or retry (``lanes.py``). Forked by the worker's forkserver. Training has
processes of another kind (``group_child.py``).
"""

import os
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection

from luthier.storage.database import Database
from luthier.worker.attempt import Attempt
from luthier.worker.floor import SoleFloor
from luthier.worker.orders import EXIT_CRASH, EXIT_OK, EXIT_ORPHAN, ChildOrder

# Training yields to serving and to the rest of the machine.
NICENESS = 5


def run_child(order: ChildOrder, alive: Connection) -> None:
    """The whole life of the forked process; never returns."""
    log_to(order)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the whole group; the worker tells us itself
    threading.Thread(target=_exit_with_worker, args=(alive,), name="orphan-watch", daemon=True).start()
    os.nice(NICENESS)
    try:
        database = Database(order.settings.state_database)
        attempt = Attempt(order, database, SoleFloor())
        signal.signal(signal.SIGTERM, lambda _signal, _frame: attempt.stop())
        attempt.run()
        database.close()
        code = EXIT_OK
    except Exception:  # noqa: BLE001 - the process's edge: the worker counts the crash, the log keeps the text
        traceback.print_exc()
        code = EXIT_CRASH
    leave(code)


def log_to(order: ChildOrder) -> None:
    """What the process writes goes into the run's ``child.log``."""
    run_dir = order.settings.run_dir(order.job.id)
    run_dir.mkdir(parents=True, exist_ok=True)
    log = (run_dir / "child.log").open("ab", buffering=0)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)


def leave(code: int) -> None:
    """End the process."""
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
