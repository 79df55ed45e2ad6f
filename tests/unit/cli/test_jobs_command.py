"""``luthier jobs``: create from files and ids, dry runs, lists, events, checkpoints, changes of status."""

import json
from pathlib import Path
from typing import Any

import pytest

from luthier.core.jobs import JobStatus
from tests.support.api_server import ApiServer
from tests.support.command_line import luthier, one_line
from tests.support.fake_server import FakeApi, serving
from tests.support.office import new_checkpoint, note
from tests.unit.cli.conftest import Run

JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture
def training_file(run: Run, rows: Path) -> str:
    return run("files", "upload", str(rows), "-q").stdout.strip()


def job_of(server: ApiServer, job_id: str, below: str = "", **query: Any) -> Any:
    with server.http() as http:
        return http.get(f"{JOBS}/{job_id}{below}", params=query).json()


def test_a_job_from_local_files_uploads_them_first(run: Run, server: ApiServer, rows: Path) -> None:
    options = ["--suffix", "demo", "--seed", "7", "--n-epochs", "3", "--batch-size", "auto", "--learning-rate-multiplier", "0.5"]
    files = ["--training-file", str(rows), "--validation-file", str(rows)]
    result = run("jobs", "create", *files, *options, "--metadata", "team=a", "--metadata", "run=1", "--json")
    assert result.exit_code == 0, result.stderr
    job = json.loads(result.stdout)
    assert job == job_of(server, job["id"])
    assert (job["model"], job["seed"], job["user_provided_suffix"], job["metadata"]) == (
        "luthier-mini",
        7,
        "demo",
        {"team": "a", "run": "1"},
    )
    assert job["hyperparameters"] == {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 0.5}
    assert job["training_file"] != job["validation_file"]
    with server.http() as http:
        assert http.get(f"/v1/files/{job['training_file']}/content").content == rows.read_bytes()
    assert f"Uploaded {rows} as {job['training_file']}.\n" in result.stderr


def test_a_job_from_an_id_uploads_nothing(run: Run, training_file: str) -> None:
    result = run("jobs", "create", "--model", "gpt-4o-mini", "--training-file", training_file, "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    (job_id,) = result.stdout.splitlines()
    shown = run("jobs", "get", job_id).stdout
    for part in (job_id, "validating files", "gpt-4o-mini-2024-07-18", training_file, "just now", "n_epochs auto"):
        assert part in shown


def test_a_dry_run_shows_the_request_and_sends_nothing(rows: Path) -> None:
    api = FakeApi([], lambda model, text: "")
    arguments = ["--training-file", str(rows), "--validation-file", "file-abc", "--n-epochs", "2", "--metadata", "a=b"]
    with serving(api) as url:
        result = luthier("jobs", "create", *arguments, "--dry-run", url=url)
    assert (result.exit_code, result.stderr, api.requests) == (0, "", [])
    assert json.loads(result.stdout) == {
        "uploads": [{"path": str(rows), "bytes": rows.stat().st_size, "purpose": "fine-tune"}],
        "request": {
            "method": "POST",
            "path": JOBS,
            "body": {
                "model": "luthier-mini",
                "training_file": f"<id of {rows}>",
                "validation_file": "file-abc",
                "metadata": {"a": "b"},
                "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
            },
        },
    }


def test_a_dry_run_needs_no_server_and_no_key(rows: Path, tmp_path: Path) -> None:
    result = luthier("jobs", "create", "--training-file", str(rows), "--dry-run", "--data-dir", str(tmp_path / "none"))
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    ("text", "fault"), [("", "The file is empty."), ('{"a": 1}\nnot json\n', "Line 2"), ('{"a": 1}\n\n{"a": 1}\n', "Line 2")]
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_bad_lines_are_found_before_anything_is_sent(tmp_path: Path, rows: Path, text: str, fault: str, dry_run: bool) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(text, encoding="utf-8")
    api = FakeApi([], lambda model, text: "")
    arguments = ["--training-file", str(rows), "--validation-file", str(bad), *(["--dry-run"] if dry_run else [])]
    with serving(api) as url:
        result = luthier("jobs", "create", *arguments, url=url)
    assert (result.exit_code, api.requests) == (5, [])
    assert fault in one_line(result)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--training-file", "nothing-here.jsonl"],
        ["--training-file", "."],
        ["--training-file", "file-a", "--n-epochs", "many"],
        ["--training-file", "file-a", "--batch-size", "1.5"],
        ["--training-file", "file-a", "--seed", "-1"],
        ["--training-file", "file-a", "--metadata", "x"],
        ["--training-file", "file-a", "--json", "-q"],
        ["--training-file", "file-a", "--epochs", "3"],
    ],
)
def test_what_is_written_wrongly_is_a_usage_error(arguments: list[str]) -> None:
    result = luthier("jobs", "create", *arguments, url="http://127.0.0.1:9")
    assert result.exit_code == 2
    one_line(result)


def test_a_value_that_the_server_refuses_is_invalid_data(run: Run, training_file: str) -> None:
    result = run("jobs", "create", "--training-file", training_file, "--n-epochs", "51")
    assert result.exit_code == 5
    line = one_line(result)
    assert "integer above maximum value" in line
    assert line.endswith("Try: luthier jobs create --help")


def test_lists_filter_and_page(run: Run, server: ApiServer, training_file: str) -> None:
    made = [run("jobs", "create", "--training-file", training_file, "--metadata", "list=x", "-q").stdout.strip() for _ in range(3)]
    page = run("jobs", "list", "--metadata", "list=x", "--limit", "2", "-q")
    assert page.stdout.splitlines() == made[:0:-1]
    assert page.stderr == f"More: luthier jobs list --after {made[1]}\n"
    rest = json.loads(run("jobs", "list", "--metadata", "list=x", "--after", made[1], "--json").stdout)
    assert rest == {**rest, "object": "list", "data": [job_of(server, made[0])], "has_more": False}
    table = run("jobs", "list", "--metadata", "list=x").stdout
    assert all(job_id in table for job_id in made)
    assert "validating files" in table


def running_job(server: ApiServer, run: Run, training_file: str) -> tuple[str, int]:
    job_id = run("jobs", "create", "--training-file", training_file, "-q").stdout.strip()
    queue, jobs = server.services.queue, server.services.jobs
    while True:
        leased = queue.lease("owner-test", [JobStatus.VALIDATING_FILES])
        assert leased is not None
        if leased.id == job_id:
            break
    jobs.update(job_id, fence=leased.fence, changes={"status": JobStatus.QUEUED}, events=[note("queued now")])
    jobs.update(job_id, fence=leased.fence, changes={"status": JobStatus.RUNNING}, events=[note("running [bold]now")])
    return job_id, leased.fence


def test_events_read_like_a_log_and_json_as_the_api_has_them(run: Run, server: ApiServer, training_file: str) -> None:
    job_id, _ = running_job(server, run, training_file)
    table = run("jobs", "events", job_id).stdout
    assert table.index("Created fine-tuning job") < table.index("queued now") < table.index("running [bold]now")
    shown = run("jobs", "events", job_id, "--limit", "2", "--json")
    assert json.loads(shown.stdout) == job_of(server, job_id, "/events", limit=2)
    last = json.loads(shown.stdout)["data"][-1]["id"]
    assert shown.exit_code == 0
    quiet = run("jobs", "events", job_id, "--after", last, "-q").stdout.splitlines()
    assert quiet == [e["id"] for e in job_of(server, job_id, "/events", after=last)["data"]]


def test_checkpoints_name_their_models(run: Run, server: ApiServer, training_file: str) -> None:
    job_id, fence = running_job(server, run, training_file)
    points = [new_checkpoint(job_id, step) for step in (5, 10)]
    server.services.jobs.update(job_id, fence=fence, checkpoints=points)
    table = run("jobs", "checkpoints", job_id).stdout
    assert table.index(points[1].model_name) < table.index(points[0].model_name)
    assert "0.50" in table
    assert run("jobs", "checkpoints", job_id, "-q").stdout.splitlines() == [points[1].id, points[0].id]
    assert json.loads(run("jobs", "checkpoints", job_id, "--limit", "1", "--json").stdout) == job_of(
        server, job_id, "/checkpoints", limit=1
    )


def test_cancel_works_once(run: Run, training_file: str) -> None:
    job_id = run("jobs", "create", "--training-file", training_file, "-q").stdout.strip()
    assert json.loads(run("jobs", "cancel", job_id, "--json").stdout)["status"] == "cancelled"
    again = run("jobs", "cancel", job_id)
    assert again.exit_code == 1
    assert one_line(again).endswith(f"See: luthier jobs get {job_id}")


@pytest.mark.parametrize("action", ["get", "events", "checkpoints", "cancel", "wait"])
def test_an_unknown_job_is_not_found(run: Run, action: str) -> None:
    result = run("jobs", action, "ftjob-nothing")
    assert result.exit_code == 4
    assert "Could not find fine tune: ftjob-nothing Try: luthier jobs list" in result.stderr
    assert result.stdout == ""


class Pausable(FakeApi):
    """A server whose job can be paused and resumed."""

    def reply(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, dict[str, Any]]:
        for action, status in (("pause", "paused"), ("resume", "queued")):
            if (method, path) == ("POST", f"{JOBS}/ftjob-abc/{action}"):
                self.requests.append((method, path, body))
                self.status = status
                return 200, self.job()
        if path.endswith(("/pause", "/resume")):
            return 404, {"error": {"message": f"Invalid URL ({method} {path})", "type": "invalid_request_error", "code": None}}
        return super().reply(method, path, query, body)


def test_pause_and_resume_are_asked_for() -> None:
    api = Pausable([], lambda model, text: "", status="running")
    with serving(api) as url:
        paused = luthier("jobs", "pause", "ftjob-abc", "--json", url=url)
        resumed = luthier("jobs", "resume", "ftjob-abc", "--json", url=url)
        missing = luthier("jobs", "pause", "ftjob-x/y", url=url)
    assert [json.loads(r.stdout)["status"] for r in (paused, resumed)] == ["paused", "queued"]
    assert [path.rpartition("/")[2] for _, path, _ in api.requests] == ["pause", "resume"]
    assert missing.exit_code == 4
    assert "This server does not have POST /v1/fine_tuning/jobs/ftjob-x%2Fy/pause" in one_line(missing)


def test_a_real_server_pauses_and_resumes(run: Run, training_file: str) -> None:
    job_id = run("jobs", "create", "--training-file", training_file, "-q").stdout.strip()
    paused = run("jobs", "pause", job_id, "--json")
    assert (paused.exit_code, json.loads(paused.stdout)["status"]) == (0, "paused")
    assert run("jobs", "resume", job_id, "-q").stdout == f"{job_id}\n"
    again = run("jobs", "resume", job_id)
    assert again.exit_code == 1
    assert one_line(again).endswith(f"See: luthier jobs get {job_id}")
