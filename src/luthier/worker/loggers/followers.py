"""Starts, restarts and ends the processes that tell a job's loggers; says once, in the job's events, when one could not.

What it does: one thread for each logger of each running job, beside the lanes, which never wait for it. What it does not: read the
run's log (``follower.py``). Built in ``worker/main.py``, called by ``worker/group_lane.py``.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from luthier.core.errors import LuthierError
from luthier.core.jobs import Job, NewEvent
from luthier.core.settings import Settings
from luthier.storage.jobs import JobStore, JobWrite
from luthier.worker.loggers.files import LoggerFiles
from luthier.worker.loggers.follower import EXIT_LATE, EXIT_MISSING, EXIT_OK
from luthier.worker.loggers.targets import LoggerTarget, targets_of

log = logging.getLogger("luthier.worker")

ATTEMPTS = 4
RETRY_SECONDS = 2.0
"""Before the second attempt; each further one waits twice as long."""
_POLL_SECONDS = 0.25
_KILL_SECONDS = 5.0
"""A process that has not ended itself so long after its grace is killed."""
_PRIVATE = ("LUTHIER_ENGINE_SOCKET", "LUTHIER_ENGINE_SECRET")
Tell = Callable[[str, str], None]


class Followers:
    """All loggers of all jobs of one worker. Any thread may call it."""

    def __init__(self, settings: Settings, tell: Tell, *, command: Sequence[str] | None = None) -> None:
        """Args:
        tell: told the id of a job and a sentence when a logger could not be told everything.
        command: starts a follower; the real one unless a test brings another.
        """
        self._settings, self._tell = settings, tell
        self._told: set[tuple[str, str]] = set()
        self._command = tuple(command or (sys.executable, "-m", "luthier.worker.loggers.follower"))
        self._lock = threading.Lock()
        self._running: dict[tuple[str, str], _Supervisor] = {}

    def begin(self, job: Job) -> None:
        """The job's process is about to start. Returns at once."""
        for target in targets_of(job, self._settings):
            with self._lock:
                before = self._running.get((job.id, target.key))
                after = _Supervisor(job.id, target, self._settings, self._command, self._tell_once, before)
                self._running[job.id, target.key] = after
            after.start()

    def end(self, job_id: str) -> None:
        """The job's process is over: what its log holds is still told, within the grace. Returns at once."""
        with self._lock:
            ending = [one for (of, _), one in self._running.items() if of == job_id]
            self._running = {place: one for place, one in self._running.items() if one.is_alive()}
        for one in ending:
            one.ended.set()

    def _tell_once(self, job_id: str, key: str, sentence: str) -> None:
        """A job that is started again and again need not hear it each time."""
        with self._lock:
            known = (job_id, key) in self._told
            self._told.add((job_id, key))
        if not known:
            self._tell(job_id, sentence)

    def stop(self, seconds: float) -> None:
        """The worker ends: give all processes so long together, then kill them."""
        with self._lock:
            ending = list(self._running.values())
        deadline = time.monotonic() + seconds
        for one in ending:
            one.ended.set()
        for one in ending:
            one.join(timeout=max(0.0, deadline - time.monotonic()))
            one.kill()


class _Supervisor(threading.Thread):
    """One logger of one attempt at a job."""

    def __init__(
        self,
        job_id: str,
        target: LoggerTarget,
        settings: Settings,
        command: tuple[str, ...],
        tell: Callable[[str, str, str], None],
        before: "_Supervisor | None",
    ) -> None:
        """``before``: the one of an earlier attempt, which may not be done yet."""
        super().__init__(name=f"logger-{target.key}", daemon=True)
        self.ended = threading.Event()
        self._job_id, self._target, self._settings = job_id, target, settings
        self._tell, self._before = tell, before
        self._files = LoggerFiles(settings.run_dir(job_id), target.key)
        options = ("--target", target.to_json(), "--job", job_id, "--run-dir", str(settings.run_dir(job_id)))
        self._command = (*command, *options, "--grace", str(settings.logger_grace_seconds))
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Until all is told, or no more is tried."""
        try:
            if self._before is not None:
                self._before.join()
                self._before = None
            self._attempts()
        except OSError as error:  # no process can be made, or the disk is full: the job goes on without this logger
            log.exception("%s of %s", self._target.title, self._job_id)
            self._say(f"{error.strerror or error}")

    def kill(self) -> None:
        """End the process by force, where there is one."""
        process = self._process
        if process is not None and process.poll() is None:
            _kill_group(process)

    def _attempts(self) -> None:
        pause = RETRY_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            code = self._run_once()
            if code == EXIT_OK:
                return
            why = self._files.take_error()
            if code == EXIT_MISSING:
                self._say(f"its library is not installed ({why}). Install it with: pip install 'luthier[{self._target.kind}]'")
                return
            if code == EXIT_LATE or self.ended.is_set():
                late = f"it was not done {self._settings.logger_grace_seconds:g} s after the job's end"
                self._say(why or late)
                return
            if attempt == ATTEMPTS:
                self._say(why or f"its process ended with {code}")
                return
            log.warning("%s of %s: attempt %s ended with %s: %s", self._target.title, self._job_id, attempt, code, why)
            self.ended.wait(pause)
            pause *= 2

    def _run_once(self) -> int:
        with self._files.log.open("ab") as output:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=_environment(os.environ),
                start_new_session=True,  # a group of its own, so that what a library starts ends with it
            )
        self._process = process
        assert process.stdin is not None
        while process.poll() is None and not self.ended.is_set():
            self.ended.wait(_POLL_SECONDS)
        process.stdin.close()
        try:
            code = process.wait(timeout=self._settings.logger_grace_seconds + _KILL_SECONDS)
        except subprocess.TimeoutExpired:
            code = EXIT_LATE
        if code != EXIT_OK:
            _kill_group(process)
        return code

    def _say(self, why: str) -> None:
        sentence = f"{self._target.title} was not told everything of this job: {why.rstrip('.')}. The training is not affected."
        log.warning("%s: %s", self._job_id, sentence)
        self._tell(self._job_id, self._target.key, sentence)


def event_writer(jobs: JobStore, clock: Callable[[], float] = time.time) -> Tell:
    """Writes the sentence as a warning among the job's events, whatever the job's status is by then."""

    def tell(job_id: str, sentence: str) -> None:
        event = NewEvent(created_at=int(clock()), level="warn", message=sentence)
        try:
            jobs.decide(job_id, lambda _job: JobWrite(events=(event,)))
        except LuthierError as error:  # deleted, or the database is busy: the worker's log has the sentence
            log.warning("%s: the event could not be written: %s", job_id, error.message)

    return tell


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The libraries' own variables go along, the engine host's secret does not."""
    return {name: value for name, value in environ.items() if name not in _PRIVATE}


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
