"""A logger's process may hang, raise or be missing: it is tried again, ended in its time, and told of once."""

import sys
import threading
import time
from pathlib import Path

import pytest

from luthier.core.settings import Settings
from luthier.storage.database import Database
from luthier.storage.jobs import JobStore
from luthier.worker.loggers import followers as followers_module
from luthier.worker.loggers.followers import ATTEMPTS, Followers, event_writer
from tests.support.office import new_job

COUNTS = "from pathlib import Path; import os, sys; folder = Path(sys.argv[sys.argv.index('--run-dir') + 1]) / 'loggers'; "
COUNTS += "runs = folder / 'runs'; number = len(runs.read_text()) + 1 if runs.exists() else 1; runs.write_text('x' * number); "
WAITS = "sys.stdin.read(); "


class Office:
    """Followers of one job whose process is a few lines of Python."""

    def __init__(self, folder: Path, code: str, *, grace: float = 20.0) -> None:
        self.settings = Settings(data_dir=folder, tensorboard_dir=str(folder / "tb"), logger_grace_seconds=grace)
        self.job = new_job()
        self.told: list[tuple[str, str]] = []
        command = [sys.executable, "-c", COUNTS + code]
        self.followers = Followers(self.settings, lambda job_id, text: self.told.append((job_id, text)), command=command)

    @property
    def runs(self) -> int:
        counted = self.settings.run_dir(self.job.id) / "loggers" / "runs"
        return len(counted.read_text()) if counted.exists() else 0

    def join(self) -> None:
        for thread in threading.enumerate():
            if thread.name.startswith("logger-"):
                thread.join(60)
                assert not thread.is_alive()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers_module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(followers_module, "_KILL_SECONDS", 0.1)


def test_one_that_does_its_work_is_not_heard_of(tmp_path):
    office = Office(tmp_path, WAITS + "sys.exit(0)")
    office.followers.begin(office.job)
    office.followers.end(office.job.id)
    office.join()
    assert (office.runs, office.told) == (1, [])


def test_one_that_raises_is_tried_again_and_told_of_once(tmp_path):
    office = Office(tmp_path, "(folder / 'tensorboard.error').write_text('no route to host'); sys.exit(1)")
    office.followers.begin(office.job)
    office.join()
    assert office.runs == ATTEMPTS
    sentence = "TensorBoard was not told everything of this job: no route to host. The training is not affected."
    assert office.told == [(office.job.id, sentence)]
    office.followers.begin(office.job)
    office.join()
    assert office.told == [(office.job.id, sentence)], "the next attempt at the job says it no second time"


def test_one_that_recovers_is_not_told_of(tmp_path):
    office = Office(tmp_path, "sys.exit(1) if number < 3 else None; " + WAITS + "sys.exit(0)")
    office.followers.begin(office.job)
    deadline = time.monotonic() + 60
    while office.runs < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    office.followers.end(office.job.id)
    office.join()
    assert (office.runs, office.told) == (3, [])


def test_a_missing_library_is_not_tried_again_and_its_extra_is_named(tmp_path):
    office = Office(tmp_path, "sys.exit(4)")
    office.followers.begin(office.job)
    office.join()
    assert office.runs == 1
    assert office.told[0][1].endswith("Install it with: pip install 'luthier[tensorboard]'. The training is not affected.")


def test_one_that_hangs_is_killed_after_the_grace_with_all_that_it_started(tmp_path):
    child = "import subprocess; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    hangs = child + "(folder / 'pid').write_text(str(p.pid)); import time; time.sleep(600)"
    office = Office(tmp_path, hangs, grace=0.2)
    office.followers.begin(office.job)
    pid = office.settings.run_dir(office.job.id) / "loggers" / "pid"
    deadline = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    office.followers.end(office.job.id)
    office.join()
    assert [text for _, text in office.told] == [
        "TensorBoard was not told everything of this job: it was not done 0.2 s after the job's end. The training is not affected."
    ]
    import psutil

    def ended() -> bool:
        try:
            return psutil.Process(int(pid.read_text())).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    # It was told to end; on a busy machine the kernel takes a moment to do it.
    deadline = time.monotonic() + 60
    while not ended() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ended()


def test_the_next_attempts_process_waits_for_the_one_before(tmp_path):
    office = Office(tmp_path, WAITS + "import time; time.sleep(0.3); sys.exit(0)")
    office.followers.begin(office.job)
    office.followers.end(office.job.id)
    office.followers.begin(office.job)
    office.followers.end(office.job.id)
    office.join()
    assert (office.runs, office.told) == (2, [])


def test_a_worker_that_ends_does_not_wait_for_a_logger_that_hangs(tmp_path):
    office = Office(tmp_path, "import time; time.sleep(600)", grace=600.0)
    office.followers.begin(office.job)
    office.followers.stop(0.1)
    office.join()
    assert office.told, "what was not told is said"


def test_the_engines_secret_is_not_handed_on(tmp_path, monkeypatch):
    monkeypatch.setenv("LUTHIER_ENGINE_SECRET", "s")
    monkeypatch.setenv("WANDB_MODE", "offline")
    code = "(folder / 'env').write_text(str((os.environ.get('LUTHIER_ENGINE_SECRET'), os.environ['WANDB_MODE'])))"
    office = Office(tmp_path, code)
    office.followers.begin(office.job)
    office.join()
    assert (office.settings.run_dir(office.job.id) / "loggers" / "env").read_text() == "(None, 'offline')"


def test_the_sentence_becomes_a_warning_of_the_job_even_after_its_end(database: Database):
    jobs = JobStore(database)
    job = jobs.insert(new_job(), [])
    tell = event_writer(jobs, clock=lambda: 5.0)
    tell(job.id, "W&B was not told.")
    tell("ftjob-none", "nobody hears it")
    (event,) = jobs.events_since(job.id, 0)
    assert (event.level, event.message, event.created_at, event.type) == ("warn", "W&B was not told.", 5, "message")
