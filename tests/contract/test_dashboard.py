"""What the dashboard reads: lists, views, metrics, the stream; the same for any client with a key."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luthier.api.schemas.dashboard_objects import JobView
from luthier.core.jobs import JobStatus
from luthier.core.stage import Stage
from luthier.storage.job_overview import SORTS
from luthier.trace.events import Notice, StepDone
from luthier.trace.levels import rebuild
from luthier.trace.reader import read_events
from luthier.trace.tracer import Tracer
from luthier.trace.writer import TraceWriter, encode_event
from tests.support.api_server import BASE, KEY, TUNED, ApiServer
from tests.support.office import new_job, note
from tests.support.trace_logs import whole_run


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    """A server of each test's own: what is counted here must not be others'."""
    server = ApiServer(tmp_path / "data")
    yield server
    server.stop()


@pytest.fixture
def job_id(server: ApiServer, training_file: str) -> str:
    return server.client().fine_tuning.jobs.create(model="gpt-4o-mini", training_file=training_file, suffix="first").id


def insert(server: ApiServer, count: int, **values: Any) -> list[str]:
    jobs = [new_job(**values) for _ in range(count)]
    for job in jobs:
        server.services.jobs.insert(job, [note("Created")])
    return [job.id for job in jobs]


def get(server: ApiServer, path: str) -> Any:
    with server.http() as http:
        answer = http.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def log_whole_run(server: ApiServer, job_id: str) -> None:
    folder = server.services.settings.run_dir(job_id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trace.jsonl").write_bytes(b"".join(encode_event(event) for event in whole_run()))


def test_a_new_job_is_one_line_of_which_the_unknown_is_null(server: ApiServer, job_id: str) -> None:
    page = get(server, "/v1/luthier/jobs")
    assert (page["total"], page["has_more"], len(page["data"])) == (1, False, 1)
    row = page["data"][0]
    assert (row["id"], row["status"], row["suffix"], row["base"], row["adapter"]) == (job_id, "validating_files", "first", BASE, "lora")
    assert (row["queue_place"], row["step"], row["eta_seconds"], row["best_valid_loss"], row["error"]) == (1, None, None, None, None)


@pytest.mark.parametrize("sort", [*SORTS, *(f"-{name}" for name in SORTS)])
def test_pages_hold_every_job_once_in_the_order_asked_for(server: ApiServer, sort: str) -> None:
    for loss in (0.5, None, 0.25, 0.5, None, 1.5, 0.0):
        status = JobStatus.SUCCEEDED if loss else JobStatus.FAILED
        insert(server, 1, best_valid_loss=loss, status=status, model=f"model-{loss}", finished_at=int((loss or 0) * 100) or None)
    seen, after = [], ""
    while True:
        page = get(server, f"/v1/luthier/jobs?sort={sort}&limit=2{after}")
        seen += page["data"]
        assert page["total"] == 7
        if not page["has_more"]:
            break
        after = f"&after={page['data'][-1]['id']}"
    assert len({row["id"] for row in seen}) == len(seen) == 7
    name = sort.removeprefix("-")
    values = [row[name] for row in seen if row[name] is not None]
    assert values == sorted(values, reverse=sort.startswith("-"))
    assert all(row[name] is None for row in seen[len(values) :]), "jobs without the value come last"


def test_filters_narrow_and_count(server: ApiServer) -> None:
    done = insert(server, 2, status=JobStatus.SUCCEEDED, fine_tuned_model=TUNED, suffix="100%_sure")
    insert(server, 3, method="dpo")
    assert get(server, "/v1/luthier/jobs?status=succeeded,failed")["total"] == 2
    assert get(server, "/v1/luthier/jobs?method=dpo")["total"] == 3
    assert get(server, f"/v1/luthier/jobs?model={TUNED}")["total"] == 2
    assert get(server, f"/v1/luthier/jobs?search={done[0][6:].upper()}")["data"][0]["id"] == done[0]
    assert get(server, "/v1/luthier/jobs?search=100%25_S")["total"] == 2
    insert(server, 1, metadata={"Team": "support desk"})
    assert get(server, "/v1/luthier/jobs?search=PORT%20D")["total"] == get(server, "/v1/luthier/jobs?search=team")["total"] == 1
    assert get(server, "/v1/luthier/jobs?search=%25")["total"] == 2, "a sign of the database's patterns is a sign"
    with server.http() as http:
        for query, param in (("status=done", "status"), ("sort=age", "sort"), ("method=rlhf", "method")):
            answer = http.get(f"/v1/luthier/jobs?{query}")
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert http.get("/v1/luthier/jobs?after=ftjob-nothing").status_code == 404


def test_several_jobs_are_cancelled_and_each_that_cannot_be_says_why(server: ApiServer, job_id: str) -> None:
    (done,) = insert(server, 1, status=JobStatus.SUCCEEDED)
    with server.http() as http:
        answer = http.post("/v1/luthier/jobs/cancel", json={"ids": [job_id, done, "ftjob-nothing", job_id]}).json()
        assert [row["id"] for row in answer["data"]] == [job_id, done, "ftjob-nothing"]
        assert answer["data"][0] == {"id": job_id, "status": "cancelled", "error": None}
        assert "succeeded" in answer["data"][1]["error"]["message"]
        assert answer["data"][2]["error"]["code"] == "fine_tune_not_found"
        assert http.post("/v1/luthier/jobs/cancel", json={"ids": []}).status_code == 400


def test_a_view_is_the_log_folded_without_its_steps(server: ApiServer, job_id: str) -> None:
    empty = get(server, f"/v1/luthier/jobs/{job_id}/view")
    assert (empty["step_count"], empty["quiz"], empty["insight"], empty["view"]["epochs"]) == (0, None, None, [])
    log_whole_run(server, job_id)
    view = get(server, f"/v1/luthier/jobs/{job_id}/view")
    assert view["view"]["steps"] == []
    assert view["step_count"] > 0
    assert view["view"]["epochs"][-1]["observation"]
    assert view["insight"]["text"]
    assert view["job"]["id"] == job_id
    JobView.model_validate(view)
    assert job_id not in view["code"]["python"]
    assert view["job"]["training_file"] in view["code"]["python"]
    with server.http() as http:
        assert http.get("/v1/luthier/jobs/ftjob-nothing/view").status_code == 404


def test_metrics_of_a_run_from_before_there_were_levels_come_from_its_log(server: ApiServer, training_file: str) -> None:
    (done,) = insert(server, 1, status=JobStatus.SUCCEEDED)
    assert get(server, f"/v1/luthier/jobs/{done}/metrics")["steps"] == 0
    log_whole_run(server, done)
    found = get(server, f"/v1/luthier/jobs/{done}/metrics?points=2")
    steps = [e.payload for e in whole_run() if isinstance(e.payload, StepDone)]
    assert found["steps"] == max(step.step for step in steps)
    assert len(found["series"]["step"]) <= 2
    assert get(server, f"/v1/luthier/jobs/{done}/metrics?from=1&to=1")["series"]["train_loss_mean"] == [steps[0].loss]


class Listener:
    """A tab: the events of a stream, read in a thread."""

    def __init__(self, server: ApiServer, query: str = "", **headers: str) -> None:
        self.heard: list[tuple[str, str, Any]] = []
        self._http = server.http()
        self._stop = False
        self._thread = threading.Thread(target=self._listen, args=(f"/v1/luthier/stream{query}", headers), daemon=True)
        self._thread.start()

    def _listen(self, path: str, headers: dict[str, str]) -> None:
        with self._http, self._http.stream("GET", path, headers=headers) as answer:
            parts: dict[str, str] = {}
            for line in answer.iter_lines():
                if self._stop:
                    return
                if line:
                    name, _, value = line.partition(": ")
                    parts[name] = value
                elif "data" in parts:
                    self.heard.append((parts["event"], parts["id"], json.loads(parts["data"])))
                    parts = {}

    def wait(self, count: int) -> list[tuple[str, str, Any]]:
        until = time.monotonic() + 60
        while len(self.heard) < count:
            assert time.monotonic() < until, self.heard
            time.sleep(0.02)
        return self.heard

    def close(self) -> None:
        self._stop = True


@pytest.fixture
def listen(server: ApiServer) -> Iterator[Any]:
    made: list[Listener] = []

    def start(query: str = "", **headers: str) -> Listener:
        made.append(Listener(server, query, **headers))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_a_tab_hears_of_every_change_and_goes_on_where_it_was(server: ApiServer, job_id: str, listen: Any) -> None:
    first = listen()
    assert first.wait(1)[0][0] == "hello"
    server.client().fine_tuning.jobs.pause(job_id)
    kind, mark, row = first.wait(2)[1]
    assert (kind, row["id"], row["status"]) == ("job", job_id, "paused")
    first.close()
    server.client().fine_tuning.jobs.resume(job_id)
    again = listen("", **{"Last-Event-ID": mark})
    assert [(kind, row["status"]) for kind, _, row in again.wait(2)[1:]] == [("job", "queued")] or again.heard[1][2]["status"] != "paused"
    assert listen(f"?last_event_id={mark}").wait(2)[1][2]["id"] == job_id


def test_a_tab_follows_one_trace_without_gap_or_repeat(server: ApiServer, job_id: str, listen: Any) -> None:
    folder = server.services.settings.run_dir(job_id)
    folder.mkdir(parents=True)
    writer = TraceWriter(folder / "trace.jsonl")
    tracer = Tracer(job_id, [writer])
    for text in ("one", "two", "three"):
        tracer.emit(Stage.TRAINING, Notice(level="info", message=text))
    tab = listen(f"?job={job_id}&after=1")
    assert [data["data"]["message"] for kind, _, data in tab.wait(3) if kind == "trace"] == ["two", "three"]
    tracer.emit(Stage.TRAINING, Notice(level="info", message="four"))
    kind, mark, event = tab.wait(4)[3]
    assert (kind, event["data"]["message"], event["run"]) == ("trace", "four", job_id)
    tracer.emit(Stage.TRAINING, Notice(level="info", message="five"))
    again = listen(f"?job={job_id}", **{"Last-Event-ID": mark})
    assert [data["data"]["message"] for kind, _, data in again.wait(2) if kind == "trace"] == ["five"]


def test_a_stream_of_an_unknown_job_is_refused(server: ApiServer) -> None:
    with server.http() as http:
        assert http.get("/v1/luthier/stream?job=ftjob-nothing").status_code == 404


def test_levels_made_while_steps_come_are_those_made_from_the_log(server: ApiServer, job_id: str) -> None:
    folder = server.services.settings.run_dir(job_id)
    log_whole_run(server, job_id)
    rebuild(folder, read_events(folder / "trace.jsonl")[0])
    series = get(server, f"/v1/luthier/jobs/{job_id}/metrics")["series"]
    assert series["valid"]["step"]
    assert any(series["valid"]["full"])


def test_the_system_tells_what_it_can_read_and_null_else(server: ApiServer) -> None:
    system = get(server, "/v1/luthier/system")
    assert system["devices"][0]["kind"] == "cpu"
    assert system["devices"][0]["cores"] >= 1
    assert 0 < system["disk"]["free"] <= system["disk"]["total"]
    assert system["disk"]["bytes_per_day"] is None, "nothing is said of a disk that was watched for a moment"
    assert system["disk"]["watched_seconds"] > 0, "since the server's start, not since somebody asks"
    assert system["queue"]["jobs"]["succeeded"] == 0
    assert system["keys"] == 1
    assert {worker["alive"] for worker in system["workers"]} == {False}
    assert system["versions"]["luthier"]


def test_models_say_what_hangs_on_them(server: ApiServer, training_file: str) -> None:
    server.services.aliases.create("support", TUNED, by="test")
    waiting = insert(server, 1, parent_model=TUNED)
    rows = {row["id"]: row for row in get(server, "/v1/luthier/models")["data"]}
    assert rows[BASE]["kind"] == "base"
    assert not rows[BASE]["deletable"]
    assert rows[TUNED]["aliases"] == ["support"]
    assert not rows[TUNED]["deletable"]
    assert rows[TUNED]["dependents"] == {"aliases": ["support"], "jobs": waiting}


def test_the_demo_is_one_call(server: ApiServer) -> None:
    with server.http() as http:
        job = http.post("/v1/luthier/demo").json()
    assert job["status"] == "validating_files"
    assert job["user_provided_suffix"] == "translate"
    rows = server.client().files.content(job["training_file"]).text
    assert "Translate to French" in rows
    assert KEY not in rows
