"""Starts the workshop as a process, for the commands that work on local files without a server.

What it does: one process, which ends with the command whatever happens. Ctrl-C is the command's to hear: the process is told to end, and
takes away what is half-written. What it does not: read what it says. Called by the ``data_*.py`` commands.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO

CLEAN_SECONDS = 10.0
"""How long a process has to clear up before it is killed."""


@contextmanager
def workshop(module: str, *arguments: str, environ: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """A process of ``luthier.worker.MODULE`` and what it writes to standard output.

    The terminal tells Ctrl-C to every process of its group. While it loads its modules this one could only die with a traceback, so it
    is started with that signal blocked, and gets the one that it knows (SIGTERM) from here.
    """
    command = [sys.executable, "-m", f"luthier.worker.{module}", *arguments]
    process: subprocess.Popen[bytes] | None = None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env={**os.environ, **environ})
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert process.stdout is not None
        yield process, process.stdout
    finally:
        if process is not None:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(CLEAN_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()
