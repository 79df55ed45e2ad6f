"""``jobs wait`` and ``jobs create --wait``: how they end, and what they print meanwhile."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from luthier.cli import waiting
from luthier.cli.exit_codes import ExitCode
from luthier.core.stage import Stage
from luthier.trace.events import RunFinished, TraceEvent
from tests.support.command_line import luthier
from tests.support.fake_server import FakeApi, serving
from tests.support.trace_logs import FINAL, events_of, whole_run

ENDED = events_of([(Stage.TRAINING, RunFinished(status="failed", error={"message": "it broke"}))])


class OneJob(FakeApi):
    """A server with one job that has ended, its error about ``param``."""

    def __init__(self, events: Sequence[TraceEvent], status: str, param: str | None = None) -> None:
        super().__init__(events, lambda model, text: "", status=status, tuned=FINAL if status == "succeeded" else None)
        self.param = param

    def job(self) -> dict[str, Any]:
        job = super().job()
        return {**job, "error": {**job["error"], "param": self.param}} if job["error"] else job


def test_a_success_shows_epochs_beside_the_job() -> None:
    api = OneJob(whole_run(), "succeeded")
    with serving(api) as url:
        result = luthier("jobs", "wait", "ftjob-abc", "--json", url=url)
    assert result.exit_code == ExitCode.DONE, result.stderr
    assert json.loads(result.stdout) == api.job()
    assert "epoch 2/2  train 1.25 / 0.90" in result.stderr
    assert "held out" in result.stderr


@pytest.mark.parametrize(
    ("status", "param", "code", "says"),
    [
        ("failed", None, ExitCode.FAILED, "luthier: ftjob-abc failed: it broke Look at it with: luthier trace ftjob-abc"),
        ("failed", "training_file", ExitCode.DATA_INVALID, "ftjob-abc failed: it broke"),
        ("failed", "validation_file", ExitCode.DATA_INVALID, "ftjob-abc failed: it broke"),
        ("cancelled", None, ExitCode.CANCELLED, "luthier: ftjob-abc was cancelled."),
    ],
)
def test_another_end_has_its_code_and_a_sentence(status: str, param: str | None, code: ExitCode, says: str) -> None:
    with serving(OneJob(ENDED, status, param)) as url:
        result = luthier("jobs", "wait", "ftjob-abc", "-q", url=url)
    assert result.exit_code == code
    assert result.stdout == "ftjob-abc\n"
    assert says in result.stderr.splitlines()[-1]


def test_create_can_wait(rows: Path) -> None:
    with serving(OneJob(whole_run(), "succeeded")) as url:
        result = luthier("jobs", "create", "--training-file", str(rows), "--wait", url=url)
    assert result.exit_code == 0, result.stderr
    assert "Created ftjob-abc." in result.stderr
    assert result.stdout.count("ftjob-abc") == 1
    assert FINAL in result.stdout
    assert "epoch 1/2" in result.stderr
    assert "epoch 1/2" not in result.stdout


def test_ctrl_c_leaves_the_job_and_says_how_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(waiting, "follow", interrupted)
    api = OneJob([], "running")
    with serving(api) as url:
        result = luthier("jobs", "wait", "ftjob-abc", url=url)
    assert result.exit_code == ExitCode.DETACHED == 130
    assert result.stderr == "luthier: No longer waiting; ftjob-abc goes on. Wait again with: luthier jobs wait ftjob-abc\n"
    assert [method for method, _, _ in api.requests] == ["GET"], "nothing is asked of the job but how it is"


class Restarting(OneJob):
    """A server that is away for more answers than the client's own retries outlast."""

    def reply(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, dict[str, Any]]:
        status, reply = super().reply(method, path, query, body)
        if 1 < len(self.requests) < 5:
            return 503, {"error": {"message": "starting", "type": "server_error", "code": None, "param": None}}
        return status, reply


def test_a_restart_of_the_server_does_not_end_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    with serving(Restarting(whole_run(), "succeeded")) as url:
        result = luthier("jobs", "wait", "ftjob-abc", "-q", url=url)
    assert result.exit_code == 0, result.stderr
