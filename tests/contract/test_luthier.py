"""Our own endpoints."""

from pathlib import Path

import numpy as np
import openai
import pytest

from luthier.core.engine_messages import Render
from luthier.core.row_losses import ROW, write_epoch
from luthier.core.stage import Stage
from luthier.trace.events import Notice
from luthier.trace.tracer import Tracer
from luthier.trace.writer import TraceWriter
from tests.support.api_server import TUNED, ApiServer


@pytest.fixture
def job_id(server: ApiServer, training_file: str) -> str:
    return server.client().fine_tuning.jobs.create(model="gpt-4o-mini", training_file=training_file).id


def test_a_job_without_a_trace_has_an_empty_one(server: ApiServer, job_id: str) -> None:
    with server.http() as http:
        assert http.get(f"/v1/luthier/jobs/{job_id}/trace").json() == {"object": "list", "data": [], "has_more": False}


def test_a_trace_is_read_on_from_any_event(server: ApiServer, job_id: str) -> None:
    folder: Path = server.services.settings.run_dir(job_id)
    folder.mkdir(parents=True)
    writer = TraceWriter(folder / "trace.jsonl")
    tracer = Tracer(job_id, [writer])
    for text in ("one", "two", "three"):
        tracer.emit(Stage.TRAINING, Notice(level="info", message=text))
    with server.http() as http:
        first = http.get(f"/v1/luthier/jobs/{job_id}/trace?limit=2").json()
        rest = http.get(f"/v1/luthier/jobs/{job_id}/trace?after={first['data'][-1]['id']}").json()
    assert [e["data"]["message"] for e in first["data"]] == ["one", "two"]
    assert first["has_more"]
    assert [e["data"]["message"] for e in rest["data"]] == ["three"]
    assert not rest["has_more"]


def test_an_unknown_job_has_no_trace(server: ApiServer) -> None:
    with server.http() as http:
        for job_id in ("ftjob-nothing", "..%2f..%2fx", "%2e%2e"):
            assert http.get(f"/v1/luthier/jobs/{job_id}/trace").status_code == 404


def _write_rows(server: ApiServer, job_id: str, epoch: int, losses: dict[int, float]) -> None:
    rows = np.array([(line, 3, loss) for line, loss in losses.items()], dtype=ROW)
    write_epoch(server.services.settings.run_dir(job_id), epoch, rows)


def test_losses_by_line_before_the_first_epoch_is_over(server: ApiServer, job_id: str) -> None:
    with server.http() as http:
        empty = {"object": "list", "data": [], "has_more": False, "epoch": None, "epochs": []}
        assert http.get(f"/v1/luthier/jobs/{job_id}/row_losses").json() == empty
        assert http.get(f"/v1/luthier/jobs/{job_id}/row_losses?epoch=1").status_code == 404
        assert http.get("/v1/luthier/jobs/ftjob-nothing/row_losses").status_code == 404


def test_losses_by_line_in_pages_and_orders(server: ApiServer, job_id: str) -> None:
    _write_rows(server, job_id, 1, {1: 2.0, 2: 4.0, 4: 1.0})
    _write_rows(server, job_id, 2, {1: 1.5, 2: 0.5, 3: 9.0, 4: 1.25})
    path = f"/v1/luthier/jobs/{job_id}/row_losses"

    def lines(query: str) -> list[int]:
        answer = http.get(path + query)
        assert answer.status_code == 200, answer.text
        return [row["line"] for row in answer.json()["data"]]

    with server.http() as http:
        page = http.get(path + "?limit=2").json()
        assert (page["epoch"], page["epochs"], page["has_more"]) == (2, [1, 2], True)
        assert page["data"][0] == {"object": "luthier.row_loss", "line": 1, "tokens": 3, "loss": 1.5, "first_loss": 2.0}
        assert lines("?after=2") == [3, 4]
        assert lines("?order=loss") == [3, 1, 4, 2]
        assert lines("?order=loss&after=1&limit=1") == [4]
        assert lines("?order=fall") == [4, 1, 2, 3], "a line that the first epoch does not know comes last"
        assert lines("?epoch=1&order=loss") == [2, 1, 4]
        assert http.get(path + "?epoch=1").json()["data"][0]["first_loss"] is None
        for query, status in (("?after=77", 404), ("?epoch=3", 404), ("?epoch=0", 400), ("?order=size", 400), ("?limit=0", 400)):
            assert http.get(path + query).status_code == status, query


def test_a_conversation_as_tokens(server: ApiServer) -> None:
    body = {"model": TUNED, "messages": [{"role": "user", "content": "two words"}], "add_generation_prompt": False}
    with server.http() as http:
        answer = http.post("/v1/luthier/render", json=body).json()
    assert answer["model"] == TUNED
    assert [t["text"] for t in answer["tokens"]] == ["two", "words"]
    request = server.engine.requests[-1]
    assert isinstance(request, Render)
    assert (request.target.name, request.add_generation_prompt) == (TUNED, False)


def test_rendering_with_an_unknown_model_is_not_found(server: ApiServer) -> None:
    with pytest.raises(openai.NotFoundError):
        server.client().post("/luthier/render", cast_to=object, body={"model": "x", "messages": [{"role": "user", "content": "x"}]})
