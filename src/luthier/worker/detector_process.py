"""Runs the doctor's detectors in a process of their own, beside its other checks: two cores are faster than one.

What it does: starts the process, tells how far it has read, and hands on what it found. What it does not: detect
(``data/detectors``). Called by ``examine_data.py``.
"""

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path

from luthier.core.doctor_report import DoctorFinding
from luthier.core.errors import LuthierError
from luthier.data.detectors import all_detectors
from luthier.data.doctor.detect import detect
from luthier.data.validate import Method
from luthier.worker.orders import EXIT_ORPHAN

Detected = tuple[list[DoctorFinding], tuple[str, ...], dict[str, str]]
"""Findings, the codes of all that was looked for, and why the others were not."""


class DetectorProcess:
    """The process; ``done`` is how many bytes it has read."""

    def __init__(self, path: Path, *, method: Method | None, max_line_bytes: int) -> None:
        """Start it."""
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(theirs, path, method, max_line_bytes), daemon=True)
        with _told_to_end_later():
            self._process.start()
        theirs.close()
        self._detected: Detected | None = None
        self.done = 0

    def poll(self, seconds: float = 0.0) -> bool:
        """Take what it has told; returns whether it has finished. Waits no longer than ``seconds`` for the first word.

        Raises:
            LuthierError: it ended without a result.
        """
        try:
            while self._detected is None and self._ours.poll(seconds):
                told = self._ours.recv()
                seconds = 0.0
                if isinstance(told, int):
                    self.done = told
                else:
                    self._detected = told
        except EOFError as error:
            self._process.join()
            raise LuthierError(f"The process that looks at single rows ended with {self._process.exitcode} and no result.") from error
        return self._detected is not None

    def result(self) -> Detected:
        """What it found; ``poll`` has said that it is finished."""
        assert self._detected is not None
        self._process.join()
        return self._detected


@contextmanager
def _told_to_end_later() -> Iterator[None]:
    """Ended between the new process's birth and its first word from here, this one would leave it to die with a traceback. A handler and
    not a blocked signal: the libraries' threads would take that one."""
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
    if told:
        signal.raise_signal(signal.SIGTERM)


def _run(told: Connection, path: Path, method: Method | None, max_line_bytes: int) -> None:
    # Ctrl-C in a terminal reaches the whole group: the examination ends, and this process with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, name="orphan-watch", daemon=True).start()
    gc.set_threshold(100_000)
    detectors, skipped = all_detectors()
    try:
        findings = detect(path, detectors, method=method, max_line_bytes=max_line_bytes, on_progress=told.send)
        told.send((findings, tuple(code for detector in detectors for code in detector.codes), dict(skipped)))
    except BrokenPipeError:  # whoever would have heard it has ended, which this thread can see before the watch does
        os._exit(EXIT_ORPHAN)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(EXIT_ORPHAN)
