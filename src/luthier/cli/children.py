"""The server's child processes: start, watch, restart, stop.

What it does: starts the engine host and the worker with a pipe as standard input (its end-of-file tells them that the
server is gone), restarts one that died, ends them in order. What it does not: know what they do. Called by ``serve.py``.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click

# A child that dies is started again after this many seconds, doubled while it keeps dying young.
_RESTART_SECONDS = 0.5
_RESTART_CEILING_SECONDS = 30.0
_YOUNG_SECONDS = 10.0
_MAX_LOG_BYTES = 50 * 1024 * 1024


@dataclass(slots=True, kw_only=True)
class Child:
    """One child process and how to start it again."""

    name: str
    module: str
    log_file: Path
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    delay: float = field(default=_RESTART_SECONDS)

    def start(self, environ: Mapping[str, str]) -> None:
        """Start the process; its output is appended to its log file."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        if self.log_file.exists() and self.log_file.stat().st_size > _MAX_LOG_BYTES:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        with self.log_file.open("ab") as log, _without_ctrl_c():
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module], stdin=subprocess.PIPE, stdout=log, stderr=log, env=dict(environ)
            )
        self.started_at = time.monotonic()


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """A process that is started here is not ended by a terminal's Ctrl-C, which reaches the whole group: not in the seconds either
    before it says so itself. Of ours only this thread looks away meanwhile; the signal is not lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Children:
    """All child processes of one server."""

    def __init__(self, children: list[Child], environ: Mapping[str, str]) -> None:
        self._children = children
        self._environ = environ
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="children", daemon=True)

    def start(self) -> None:
        """Start all and begin to watch them."""
        for child in self._children:
            child.start(self._environ)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopping.wait(0.2):
            for child in self._children:
                self._look_at(child)

    def _look_at(self, child: Child) -> None:
        assert child.process is not None
        code = child.process.poll()
        if code is None:
            return
        now = time.monotonic()
        if not child.restart_at:
            young = now - child.started_at < _YOUNG_SECONDS
            child.delay = min(child.delay * 2, _RESTART_CEILING_SECONDS) if young else _RESTART_SECONDS
            child.restart_at = now + child.delay
            click.echo(f"luthier: the {child.name} ended with {code}; starting it again. Its log: {child.log_file}", err=True)
        elif now >= child.restart_at and not self._stopping.is_set():
            child.restart_at = 0.0
            child.start(self._environ)

    def stop(self, seconds: float) -> None:
        """SIGTERM to all, wait up to ``seconds`` for all together, then SIGKILL."""
        self._stopping.set()
        self._thread.join(timeout=5.0)
        running = [c.process for c in self._children if c.process is not None and c.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + seconds
        for process in running:
            try:
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
