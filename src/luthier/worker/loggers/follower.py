"""One process that follows a run's log and tells one logger: ``python -m luthier.worker.loggers.follower``.

What it does: reads the log as it grows, keeps its place on the disk so that a later process goes on there, and ends when its standard
input has (the job's process is over) and the log is told to its end. It bounds itself: what is not told some seconds after that end is
left. What it does not: touch the job, its database or its log; retry (``followers.py`` starts it again). Imports no torch.

A crash between sending and keeping its place sends some points twice, under their steps.
"""

import argparse
import dataclasses
import fcntl
import os
import select
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from luthier.trace.reader import LogTail
from luthier.worker.loggers.files import LoggerFiles
from luthier.worker.loggers.points import Point
from luthier.worker.loggers.targets import LoggerTarget, target_from_json
from luthier.worker.loggers.writers import RunWriter, open_writer

EXIT_OK, EXIT_FAILED, EXIT_LATE, EXIT_MISSING = 0, 1, 3, 4
"""All is told; an error of the library, whose text is in the files; the grace was over; the library is not installed."""
EXIT_SECONDS = 10.0
POLL_SECONDS = 0.5
NICENESS = 10


class Follower:
    """From one log to one logger."""

    def __init__(self, target: LoggerTarget, job_id: str, run_dir: Path) -> None:
        self._target, self._job_id = target, job_id
        self._files = LoggerFiles(run_dir, target.key)
        self._place = self._files.read_place()
        self._tail = LogTail(run_dir / "trace.jsonl", after=self._place.last_id)
        self._writer: RunWriter | None = None
        self._status: str | None = None

    def follow(self) -> None:
        """Until the end.

        Raises:
            ImportError: the library is not installed.
            Exception: whatever the library raises.
        """
        while True:
            # In this order: once the input has ended, nobody writes to the log any more.
            ended = _input_ended(POLL_SECONDS)
            told = self._tell_more()
            if ended and not told:
                break
        if self._writer is not None:
            self._writer.close(self._status)

    def _tell_more(self) -> bool:
        """Tell what is new; False when there was nothing."""
        events = self._tail.read()
        points: list[Point] = []
        place = dataclasses.replace(self._place)
        for event in events:
            told = place.take(event)
            if told is None:
                continue
            writer = self._opened()
            if told.point is not None:
                points.append(told.point)
            if told.config is not None:
                writer.configure(told.config)
            if told.summary is not None:
                # An answer about the whole run stands behind its steps.
                writer.write(points)
                points = []
                writer.summarize(told.summary)
            self._status = told.status or self._status
        if points:
            self._opened().write(points)
        if events:
            self._place = place
            self._files.write_place(place)
        return bool(events)

    def _opened(self) -> RunWriter:
        if self._writer is None:
            self._writer = open_writer(self._target, self._job_id, self._files.folder)
        return self._writer


def _input_ended(seconds: float) -> bool:
    """True once standard input has ended; waits for that at most so long."""
    return bool(select.select([0], [], [], seconds)[0])


def _bound(grace_seconds: float) -> None:
    """A thread that ends this process and all that its library has started, some seconds after the input has ended."""

    def watch() -> None:
        # Nothing is ever written to it: readable means ended.
        select.select([0], [], [])
        time.sleep(grace_seconds)
        _kill_group()

    threading.Thread(target=watch, name="bound", daemon=True).start()


def _kill_group() -> None:
    """By force: a library that hangs may hold any lock. Only in a group of our own, as ``followers.py`` starts it."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(EXIT_LATE)


def _only_one(files: LoggerFiles) -> None:
    """Wait for the one before this one, which may still be telling the end of an earlier attempt; the lock goes with this process."""
    descriptor = os.open(files.lock, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def main() -> None:
    """Command line: ``--target JSON --job ID --run-dir FOLDER --grace SECONDS``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", required=True)
    parser.add_argument("--job", required=True)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--grace", type=float, required=True)
    arguments = parser.parse_args()
    target = target_from_json(arguments.target)
    files = LoggerFiles(arguments.run_dir, target.key)
    os.nice(NICENESS)
    _bound(arguments.grace)
    try:
        _only_one(files)
        Follower(target, arguments.job, arguments.run_dir).follow()
        code = EXIT_OK
    except ImportError as error:
        code = EXIT_MISSING
        files.write_error(str(error))
    except Exception as error:  # noqa: BLE001 - the process's edge: the log keeps the whole text, the files the sentence
        traceback.print_exc()
        code = EXIT_FAILED
        files.write_error(f"{type(error).__name__}: {error}")
    # Libraries end their own processes and threads at exit; should that hang, this ends it.
    last = threading.Timer(EXIT_SECONDS, _kill_group)
    last.daemon = True
    last.start()
    sys.exit(code)


if __name__ == "__main__":
    main()
