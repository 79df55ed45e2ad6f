"""Starts the real server as processes, for end-to-end tests: serve, wait, kill, restart.

What it does not: fake anything. Called by tests/e2e.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
from openai import OpenAI

READY_SECONDS = 90.0
JOB_SECONDS = 240.0
FINAL = ("succeeded", "failed", "cancelled")


class ServerProcess:
    """One ``luthier serve`` on a free port over ``data_dir``."""

    def __init__(self, data_dir: Path, *, own_group: bool = False, **environ: str) -> None:
        """``own_group``: the server leads a group of processes, as it does in a terminal."""
        self.data_dir = data_dir
        self._own_group = own_group
        self._environ = environ
        self.process: subprocess.Popen[str] | None = None

    def start(self, *, port: str = "0") -> "ServerProcess":
        """Start, and wait until ``/readyz`` answers 200; ``port`` 0 is any free one."""
        command = [sys.executable, "-m", "luthier.cli.main", "serve", "--port", port, "--data-dir", str(self.data_dir)]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **self._environ},
            start_new_session=self._own_group,
        )
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"serve ended with {self.process.returncode}: {self.process.communicate()[0]}")
            if self.ready()[0] == 200:
                return self
            time.sleep(0.05)
        reasons = self.ready()
        self.kill_all()
        raise AssertionError(f"not ready in {READY_SECONDS} s: {reasons}; {self.logs()}")

    @property
    def url(self) -> str:
        return json.loads((self.data_dir / "server.json").read_text())["url"]

    @property
    def key(self) -> str:
        return (self.data_dir / "api_key").read_text()

    def client(self, **options: Any) -> OpenAI:
        """The official client, with nothing but the address and the key set."""
        return OpenAI(base_url=self.url + "/v1", api_key=self.key, **options)

    def ready(self) -> tuple[int, str]:
        """Status and body of ``/readyz``; 0 while nothing listens."""
        try:
            with urllib.request.urlopen(self.url + "/readyz", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (OSError, ValueError):
            return 0, ""

    def logs(self) -> str:
        """The end of every log of the server, for a failed test's message."""
        files = [*self.data_dir.glob("logs/*.log"), *self.data_dir.glob("runs/*/child.log")]
        return "\n".join(f"--- {f.name}\n{f.read_text(errors='replace')[-3000:]}" for f in files)

    def descendants(self) -> list[psutil.Process]:
        """All processes below the server."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def training_child(self) -> psutil.Process | None:
        """The process of the running attempt: a child of the fork server."""
        assert self.process is not None
        for worker in psutil.Process(self.process.pid).children():
            if "luthier.worker.main" in " ".join(worker.cmdline()):
                for below in worker.children():
                    for child in below.children():
                        return child
        return None

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=40)
        return self.process.returncode

    def kill_all(self) -> None:
        """SIGKILL to the server and everything below it."""
        assert self.process is not None
        for process in [*self.descendants(), psutil.Process(self.process.pid)]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.communicate(timeout=10)
        (self.data_dir / "server.json").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it however it stands; for a fixture's end."""
        if self.process is not None and self.process.poll() is None:
            self.terminate()

    def wait_for_job(self, job_id: str, seconds: float = JOB_SECONDS) -> Any:
        """Poll until the job is final; returns it."""
        client = self.client()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job = client.fine_tuning.jobs.retrieve(job_id)
            if job.status in FINAL:
                return job
            time.sleep(0.1)
        raise AssertionError(f"{job_id} is not done after {seconds} s; {self.logs()}")
