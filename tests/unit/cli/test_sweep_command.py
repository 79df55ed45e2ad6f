"""``luthier sweep`` on a real API: which jobs it creates, what it does the second time, its leaderboard, how it ends."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.console import Console

from luthier.cli import sweep as command
from luthier.cli.exit_codes import ExitCode
from luthier.cli.sweep_follow import follow_sweep
from luthier.core.jobs import JobStatus
from tests.support.api_server import ApiServer
from tests.support.command_line import luthier, one_line
from tests.support.fake_server import FakeApi, serving
from tests.support.office import new_checkpoint, note
from tests.unit.cli.conftest import Run

GRID = ("--epochs", "1,3", "--rank", "8,16")


@pytest.fixture
def sweep(run: Run, rows: Path) -> Callable[..., Result]:
    """Begin, or go on with, a sweep of the rows; the suffix makes it this test's own."""

    def begin(suffix: str, *options: str) -> Result:
        return run("sweep", str(rows), "--validation", str(rows), *GRID, "--suffix", suffix, "--yes", "--detach", *options)

    return begin


def shown(run: Run, sweep_id: str) -> dict[str, Any]:
    result = run("sweep", "show", sweep_id, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def jobs_by_point(run: Run, sweep_id: str) -> dict[str, str]:
    return {row["point"]: row["job"] for row in shown(run, sweep_id)["data"]}


def lease_all(server: ApiServer) -> dict[str, int]:
    """Every waiting job, running, by its fence."""
    fences = {}
    while (leased := server.services.queue.lease("owner-test", [JobStatus.VALIDATING_FILES])) is not None:
        server.services.jobs.update(leased.id, fence=leased.fence, changes={"status": JobStatus.QUEUED}, events=[note("queued now")])
        server.services.jobs.update(leased.id, fence=leased.fence, changes={"status": JobStatus.RUNNING}, events=[note("running now")])
        fences[leased.id] = leased.fence
    return fences


def succeed(server: ApiServer, job_id: str, fence: int, losses: Mapping[int, float], model_step: int) -> str:
    """End a job; ``losses`` of its checkpoints by step. Returns its model's name."""
    points = [
        new_checkpoint(job_id, step, metrics={"step": step, "full_valid_loss": loss, "full_valid_mean_token_accuracy": 0.5})
        for step, loss in losses.items()
    ]
    names = {point.step_number: point.model_name + job_id for point in points}
    named = [new_checkpoint(job_id, p.step_number, metrics=p.metrics, model_name=names[p.step_number]) for p in points]
    changes = {"status": JobStatus.SUCCEEDED, "fine_tuned_model": names[model_step], "finished_at": 2_000_000_000}
    server.services.jobs.update(job_id, fence=fence, changes=changes, checkpoints=named, events=[note("done")])
    return names[model_step]


def fail(server: ApiServer, job_id: str, fence: int, message: str) -> None:
    error = {"code": "server_error", "message": message, "param": None}
    changes = {"status": JobStatus.FAILED, "error": error, "finished_at": 2_000_000_000}
    server.services.jobs.update(job_id, fence=fence, changes=changes, events=[note("failed")])


def test_every_point_becomes_an_ordinary_job(run: Run, server: ApiServer, sweep: Callable[..., Result]) -> None:
    result = sweep("ordinary", "--metadata", "team=a", "--priority", "-1", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["size"], told["counts"]) == (4, {"validating_files": 4})
    assert f"Come back with: luthier sweep wait {told['id']}" in result.stderr
    found = json.loads(run("jobs", "list", "--metadata", f"sweep={told['id']}", "--json").stdout)["data"]
    assert {(j["hyperparameters"]["n_epochs"], j["luthier"]["options"]["rank"]) for j in found} == {(1, 8), (1, 16), (3, 8), (3, 16)}
    assert {j["seed"] for j in found} == {0}
    assert {j["luthier"]["options"]["priority"] for j in found} == {-1}
    assert {j["metadata"]["team"] for j in found} == {"a"}
    assert len({(j["training_file"], j["validation_file"]) for j in found}) == 1, "each file was sent once"
    assert told["id"] in run("sweep", "list", "-q").stdout.splitlines()


def test_the_same_command_goes_on_with_what_it_began(run: Run, server: ApiServer, sweep: Callable[..., Result]) -> None:
    first = json.loads(sweep("again", "--json").stdout)
    before = jobs_by_point(run, first["id"])
    gone = before["epochs=3 rank=8 seed=0"]
    run("jobs", "cancel", gone)
    with server.http() as http:
        files = len(http.get("/v1/files").json()["data"])
        result = sweep("again", "--json")
        assert json.loads(result.stdout)["id"] == first["id"]
        assert len(http.get("/v1/files").json()["data"]) == files, "the files of the first time are used again"
    assert f"{first['id']} was begun before: 3 of its 4 jobs stand." in result.stderr
    after = jobs_by_point(run, first["id"])
    assert {point for point, job in after.items() if before[point] != job} == {"epochs=3 rank=8 seed=0"}
    assert json.loads(sweep("again", "--new", "--json").stdout)["id"] != first["id"]


def test_a_file_that_is_gone_is_sent_again(run: Run, server: ApiServer, sweep: Callable[..., Result]) -> None:
    first = json.loads(sweep("gone", "--json").stdout)
    job = json.loads(run("jobs", "get", first["data"][0]["job"], "--json").stdout)
    run("sweep", "cancel", first["id"])
    run("files", "delete", job["training_file"])
    result = sweep("gone", "--json")
    assert result.exit_code == 0, result.stderr
    assert f"{job['training_file']} is gone from the server." in result.stderr
    assert shown(run, first["id"])["counts"] == {"validating_files": 4}


def test_the_leaderboard_is_by_the_loss_of_the_tuned_model(run: Run, server: ApiServer, sweep: Callable[..., Result]) -> None:
    sweep_id = json.loads(sweep("board", "--json").stdout)["id"]
    jobs, fences = jobs_by_point(run, sweep_id), lease_all(server)
    best = succeed(server, jobs["epochs=3 rank=8 seed=0"], fences[jobs["epochs=3 rank=8 seed=0"]], {10: 0.9, 20: 1.4}, model_step=10)
    succeed(server, jobs["epochs=1 rank=8 seed=0"], fences[jobs["epochs=1 rank=8 seed=0"]], {10: 1.1}, model_step=10)
    fail(server, jobs["epochs=1 rank=16 seed=0"], fences[jobs["epochs=1 rank=16 seed=0"]], "it \x1b[2Jbroke")
    found = shown(run, sweep_id)
    assert [(r["place"], r["point"], r["held_out_loss"]) for r in found["data"]] == [
        (1, "epochs=3 rank=8 seed=0", 0.9),  # of the checkpoint that became the model, not of the last one
        (2, "epochs=1 rank=8 seed=0", 1.1),
        (None, "epochs=1 rank=16 seed=0", None),
        (None, "epochs=3 rank=16 seed=0", None),
    ]
    assert (found["data"][0]["fine_tuned_model"], found["data"][0]["token_accuracy"], found["data"][0]["rank"]) == (best, 0.5, 8)
    assert found["counts"] == {"succeeded": 2, "failed": 1, "running": 1}
    assert run("sweep", "show", sweep_id, "-q").stdout.splitlines()[0] == jobs["epochs=3 rank=8 seed=0"]
    table = run("sweep", "show", sweep_id).stdout
    assert table.splitlines()[0] == f"{sweep_id}: 2 succeeded, 1 failed, 1 running"
    assert table.index(best) < table.index("it [2Jbroke")
    assert "\x1b" not in table
    assert "alpha" not in table, "a column in which all are alike says nothing"


def test_a_wait_ends_with_the_worst_that_happened(run: Run, server: ApiServer, sweep: Callable[..., Result]) -> None:
    sweep_id = json.loads(sweep("ends", "--json").stdout)["id"]
    fences = lease_all(server)
    first, _, *rest = jobs_by_point(run, sweep_id).values()
    for job_id in rest:
        succeed(server, job_id, fences[job_id], {5: 1.0}, model_step=5)
    fail(server, first, fences[first], "it broke")
    cancelled = run("sweep", "cancel", sweep_id, "--json")
    assert cancelled.exit_code == 0, cancelled.stderr
    assert json.loads(cancelled.stdout)["counts"] == {"failed": 1, "cancelled": 1, "succeeded": 2}
    result = run("sweep", "wait", sweep_id, "--json")
    assert result.exit_code == ExitCode.FAILED
    assert [r["status"] for r in json.loads(result.stdout)["data"]] == ["succeeded", "succeeded", "failed", "cancelled"]
    assert "it broke" in result.stderr
    assert result.stderr.splitlines()[-1].startswith(f"luthier: Not every job of {sweep_id} succeeded: ")


def test_all_that_succeeds_is_0_and_jobs_that_train_have_bars(run: Run, server: ApiServer, sweep: Callable[..., Result]) -> None:
    sweep_id = json.loads(sweep("live", "--json").stdout)["id"]
    fences = lease_all(server)
    looks = 0

    def look(_seconds: float) -> None:
        nonlocal looks
        looks += 1
        for job_id in list(jobs_by_point(run, sweep_id).values())[:1] if looks == 1 else jobs_by_point(run, sweep_id).values():
            if server.services.jobs.get(job_id).status is JobStatus.RUNNING:  # type: ignore[union-attr]
                succeed(server, job_id, fences[job_id], {5: 1.0}, model_step=5)

    screen = io.StringIO()
    found = follow_sweep(server.client(), sweep_id, Console(file=screen, force_terminal=True, width=160), sleep=look)
    assert (found.is_over, found.exit_code(), looks) == (True, ExitCode.DONE, 2)
    drawn = screen.getvalue()
    assert "4 running" in drawn
    assert drawn.count("held-out loss 1.0000, token accuracy 0.50") == 4
    assert run("sweep", "wait", sweep_id, "-q").exit_code == 0


def test_ctrl_c_leaves_the_jobs_and_says_how_to_come_back(
    run: Run, server: ApiServer, sweep: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    sweep_id = json.loads(sweep("left", "--json").stdout)["id"]
    monkeypatch.setattr("luthier.cli.sweep_follow.follow_sweep", interrupted)
    result = run("sweep", "wait", sweep_id)
    assert result.exit_code == ExitCode.DETACHED
    assert one_line(result) == f"luthier: No longer waiting; the jobs of {sweep_id} go on. Come back with: luthier sweep wait {sweep_id}"
    assert shown(run, sweep_id)["counts"] == {"validating_files": 4}


def test_ctrl_c_among_the_jobs_says_how_many_there_are(run: Run, sweep: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = command.post, []

    def third_is_interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(command, "post", third_is_interrupted)
    result = sweep("halted")
    assert result.exit_code == ExitCode.DETACHED
    told = result.stderr.splitlines()[-1]
    assert told.startswith("luthier: 2 of 4 jobs were created and go on; the same command creates the rest. See: luthier sweep show sweep-")
    assert run("sweep", "show", told.rpartition(" ")[2]).stdout.startswith(f"{told.rpartition(' ')[2]}: 2 validating files, 2 not created")
    monkeypatch.setattr(command, "post", real)
    assert json.loads(sweep("halted", "--json").stdout)["counts"] == {"validating_files": 4}


def test_one_that_the_server_refuses_does_not_stop_the_others(run: Run, rows: Path) -> None:
    result = run("sweep", str(rows), "--validation", str(rows), "--epochs", "2,51,3", "--suffix", "refused", "--yes", "--detach", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["counts"] == {"validating_files": 2}
    assert "Not created: epochs=51 seed=0: Invalid" in result.stderr


def test_a_sweep_of_which_nothing_is_taken_is_invalid_data(run: Run, rows: Path) -> None:
    result = run("sweep", str(rows), "--validation", str(rows), "--epochs", "51,52", "--yes")
    assert result.exit_code == ExitCode.DATA_INVALID
    assert "The server refused every job of the sweep. The first one, epochs=51" in result.stderr.splitlines()[-1]


def test_without_held_out_rows_there_is_no_sweep(rows: Path) -> None:
    result = luthier("sweep", str(rows), "--epochs", "1,3", url="http://127.0.0.1:9")
    assert result.exit_code == ExitCode.USAGE
    assert "luthier data split" in one_line(result)


@pytest.mark.parametrize(
    "options",
    [
        ("--epochs", "1,1"),
        ("--epochs", "many"),
        ("--rank", "0"),
        ("--rank", "8;16"),
        ("--epochs", "1,2,3", "--max-jobs", "2"),
        ("--metadata", "sweep=mine"),
        ("--epochs", "1,3"),  # nobody there to agree
    ],
)
def test_what_is_written_wrongly_is_a_usage_error(run: Run, rows: Path, options: tuple[str, ...]) -> None:
    result = run("sweep", str(rows), "--validation", str(rows), *options)
    assert result.exit_code == ExitCode.USAGE
    one_line(result)


def test_a_no_creates_nothing(run: Run, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_someone_is_there", lambda: True)
    arguments = ("sweep", str(rows), "--validation", str(rows), "--epochs", "4,5,6", "--detach")
    result = run(*arguments, stdin="n\n")
    assert result.exit_code == ExitCode.DETACHED
    assert "Create 3 fine-tuning jobs?" in result.stderr
    assert run(*arguments, stdin="y\n").exit_code == 0


def test_a_dry_run_needs_no_server(rows: Path) -> None:
    api = FakeApi([], lambda model, text: "")
    with serving(api) as url:
        result = luthier("sweep", str(rows), "--validation", "file-abc", *GRID, "--dry-run", url=url)
    assert (result.exit_code, api.requests) == (0, [])
    told = json.loads(result.stdout)
    assert [job["metadata"]["sweep_point"] for job in told["jobs"]] == [
        "epochs=1 rank=8 seed=0",
        "epochs=1 rank=16 seed=0",
        "epochs=3 rank=8 seed=0",
        "epochs=3 rank=16 seed=0",
    ]
    assert told["jobs"][0]["training_file"] == f"<id of {rows}>"


@pytest.mark.parametrize("action", ["show", "wait", "cancel"])
def test_an_unknown_sweep_is_not_found(run: Run, action: str) -> None:
    result = run("sweep", action, "sweep-000000000000")
    assert result.exit_code == ExitCode.NOT_FOUND
    assert one_line(result).endswith("See: luthier sweep list")
    assert run("sweep", action, "ftjob-abc").exit_code == ExitCode.USAGE


def test_bad_rows_are_found_before_anything_is_sent(tmp_path: Path, rows: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"a": 1}\nnot json\n', encoding="utf-8")
    api = FakeApi([], lambda model, text: "")
    with serving(api) as url:
        result = luthier("sweep", str(rows), "--validation", str(bad), "--yes", url=url)
    assert (result.exit_code, api.requests) == (ExitCode.DATA_INVALID, [])
