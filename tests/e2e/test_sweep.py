"""``luthier sweep`` with a real server: four tiny jobs in one process, a leaderboard from the API alone, Ctrl-C and back."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.test_group import trained_in
from tests.support.examples import chat_file
from tests.support.server import ServerProcess

SECONDS = 900.0
"""For all jobs of a sweep, however busy the machine is."""
pytestmark = pytest.mark.timeout(3 * SECONDS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A training and a validation file."""
    folder = tmp_path_factory.mktemp("rows")
    training, validation = folder / "train.jsonl", folder / "valid.jsonl"
    training.write_bytes(chat_file(16))
    validation.write_bytes(chat_file(4, "valid.jsonl"))
    return str(training), str(validation)


def luthier(server: ServerProcess, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "luthier.cli.main", *arguments, "--data-dir", str(server.data_dir)]
    place = {name: value for name, value in os.environ.items() if not name.startswith(("LUTHIER_", "OPENAI_"))}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=place, preexec_fn=_hears_ctrl_c
    )


def _hears_ctrl_c() -> None:
    """Whoever runs the tests may ignore the signal, as a script's background does, and the command would have inherited that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()  # of one that is over it does nothing
    return process.returncode, out, err


def test_a_sweep_trains_in_one_process_and_its_leaderboard_can_be_asked_for_later(server: ServerProcess, files: tuple[str, str]) -> None:
    training, validation = files
    grid = ["--epochs", "1,2", "--rank", "4,8", "--batch-size", "4"]
    code, out, err = finished(luthier(server, "sweep", training, "--validation", validation, *grid, "--suffix", "s", "--yes", "--json"))
    assert code == 0, err + server.logs()
    found = json.loads(out)
    rows = found["data"]
    assert [row["place"] for row in rows] == [1, 2, 3, 4]
    losses = [row["held_out_loss"] for row in rows]
    assert losses == sorted(losses)
    assert {(row["n_epochs"], row["rank"]) for row in rows} == {(1, 4), (1, 8), (2, 4), (2, 8)}
    assert err.count("held-out loss") == 4, "each end was told"

    client = server.client()
    for row in rows:
        job = client.fine_tuning.jobs.retrieve(row["job"])
        (last, *_) = client.fine_tuning.jobs.checkpoints.list(row["job"]).data
        assert job.fine_tuned_model == last.fine_tuned_model_checkpoint == row["fine_tuned_model"]
        assert (last.metrics.full_valid_loss, last.metrics.full_valid_mean_token_accuracy) == (row["held_out_loss"], row["token_accuracy"])
    best = client.chat.completions.create(model=rows[0]["fine_tuned_model"], messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
    assert best.choices[0].message.content is not None
    places = trained_in(server)
    assert len(set.union(*(places[row["job"]] for row in rows))) < 4, "jobs on one base shared a process"

    assert json.loads(finished(luthier(server, "sweep", "show", found["id"], "--json"))[1]) == found
    assert finished(luthier(server, "sweep", "list", "-q"))[1].splitlines() == [found["id"]]


def test_ctrl_c_leaves_the_jobs_and_the_same_command_comes_back(server: ServerProcess, files: tuple[str, str]) -> None:
    training, validation = files
    arguments = ["sweep", training, "--validation", validation, "--epochs", "6,7", "--batch-size", "2", "--suffix", "left", "--yes"]
    process = luthier(server, *arguments)
    client, deadline = server.client(), time.monotonic() + SECONDS
    while [j.user_provided_suffix for j in _jobs(server)].count("left") < 2 or "running" not in {
        j.status for j in client.fine_tuning.jobs.list()
    }:
        assert time.monotonic() < deadline, server.logs()
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    code, _, err = finished(process)
    told = err.splitlines()[-1]
    assert (code, told.startswith("luthier: No longer waiting; the jobs of sweep-")) == (130, True), err

    code, out, err = finished(luthier(server, *arguments, "--json"))
    assert code == 0, err + server.logs()
    found = json.loads(out)
    assert told.endswith(f"Come back with: luthier sweep wait {found['id']}")
    assert found["counts"] == {"succeeded": 2}
    assert [j.user_provided_suffix for j in _jobs(server)].count("left") == 2, "no job was made a second time"


def test_a_file_that_cannot_be_learned_fails_its_jobs_alone(server: ServerProcess, files: tuple[str, str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"messages": [{"role": "nobody", "content": "x"}]}\n' * 12, encoding="utf-8")
    code, out, err = finished(luthier(server, "sweep", str(bad), "--validation", files[1], "--epochs", "1,2", "--yes", "--json"))
    assert code == 5, err
    assert [(row["place"], row["status"]) for row in json.loads(out)["data"]] == [(None, "failed"), (None, "failed")]
    assert all(row["error"] for row in json.loads(out)["data"])


def _jobs(server: ServerProcess) -> list:
    return list(server.client().fine_tuning.jobs.list(limit=100))
