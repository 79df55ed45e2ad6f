"""Our own endpoints."""

from pathlib import Path

import openai
import pytest

from luthier.core.engine_messages import Render
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
