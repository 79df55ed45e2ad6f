"""The demo's server: the one that runs already, or one of its own in a temporary data directory.

What it does: finds, starts, waits until ready, stops. What it does not: talk to it. Called by ``cli/demo.py``.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from luthier.cli.client import Server, find_server, is_ready, read_key
from luthier.core.errors import AuthenticationFailed, Unavailable

START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.1
_LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class DemoServer:
    """A ready server and how it came about."""

    server: Server
    data_dir: Path | None
    """The temporary data directory of a server that was started for the demo; None for one that ran already."""
    seconds: float
    """How long the start took."""


@contextmanager
def demo_server(*, url: str | None, api_key: str | None, data_dir: Path | None, keep: bool) -> Iterator[DemoServer]:
    """A ready server; one that was started here is stopped at the end, unless it is kept.

    Raises:
        Unavailable: a server was named and does not answer, or our own did not start.
    """
    running = _running(url, api_key, data_dir)
    if running is not None:
        yield DemoServer(running, None, 0.0)
        return
    folder = Path(tempfile.mkdtemp(prefix="luthier-demo-"))
    began = time.monotonic()
    process = _start(folder, keep=keep)
    # A demo that is asked to end must take its server with it: SIGTERM would otherwise skip the block below.
    before = signal.signal(signal.SIGTERM, _exit)
    kept = False
    try:
        server = _wait(process, folder)
        yield DemoServer(server, folder, time.monotonic() - began)
        kept = keep
    finally:
        signal.signal(signal.SIGTERM, before)
        if not kept:
            stop(process)
            shutil.rmtree(folder, ignore_errors=True)


def _exit(signum: int, _frame: object) -> None:
    raise SystemExit(128 + signum)


def _running(url: str | None, api_key: str | None, data_dir: Path | None) -> Server | None:
    try:
        server = find_server(url=url, api_key=api_key, data_dir=data_dir)
    except AuthenticationFailed:
        if url is not None:
            raise
        return None
    if is_ready(server.url):
        return server
    if url is not None:
        raise Unavailable(f"No server is ready at {server.url}. Leave --url out and the demo starts its own.")
    return None


def _start(folder: Path, *, keep: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "luthier.cli.main", "serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", str(folder / "data")]
    if not keep:
        # However the demo ends, kill -9 included, the pipe closes and the server goes with it.
        command.append("--until-eof")
    with (folder / "serve.log").open("wb") as log:
        # A session of its own: Ctrl-C reaches the demo alone, which then stops the server in order.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if keep else subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=dict(os.environ),
            start_new_session=True,
        )


def _wait(process: subprocess.Popen[bytes], folder: Path) -> Server:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Unavailable(f"The demo's server ended at its start (exit code {process.returncode}):\n{_log_tail(folder)}")
        server = _announced(folder / "data")
        if server is not None and is_ready(server.url):
            return server
        time.sleep(_POLL_SECONDS)
    raise Unavailable(f"The demo's server was not ready within {START_SECONDS:.0f} seconds:\n{_log_tail(folder)}")


def _announced(data_dir: Path) -> Server | None:
    try:
        url = json.loads((data_dir / "server.json").read_text(encoding="utf-8"))["url"]
    except (OSError, ValueError, KeyError):
        return None
    key = read_key(data_dir / "api_key")
    return Server(str(url), key) if key else None


def _log_tail(folder: Path) -> str:
    try:
        lines = (folder / "serve.log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_LOG_LINES:])


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL for a server that does not end in time."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
