"""``POST /v1/luthier/trace``: what is asked of the engine, and what is added to its answer."""

import dataclasses
from typing import Any

import pytest

from luthier.core.engine_messages import TracePrediction
from tests.support.api_server import BASE, TUNED, ApiServer
from tests.support.office import new_job

SAID = [{"role": "user", "content": "Good day"}]
ROWS = (
    b'{"messages": [{"role": "user", "content": "Good night"}, {"role": "assistant", "content": "Bonne nuit"}]}\n'
    b"not a row\n"
    b'{"prompt": "A good day to you", "completion": "Bonne journ\xc3\xa9e"}\n'
    b'{"input": {"messages": [{"role": "user", "content": "half \\ud83d day"}]},'
    b' "preferred_output": [{"role": "assistant", "content": "x"}]}\n'
)


def _ask(server: ApiServer, status: int = 200, **body: Any) -> dict[str, Any]:
    with server.http() as http:
        answer = http.post("/v1/luthier/trace", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def _asked(server: ApiServer) -> TracePrediction:
    request = server.engine.requests[-1]
    assert isinstance(request, TracePrediction)
    return request


def test_a_tuned_model_is_compared_with_its_own_base(server: ApiServer) -> None:
    told = _ask(server, model=TUNED, messages=SAID)
    assert (told["object"], told["model"], told["base"]) == ("luthier.prediction_trace", TUNED, BASE)
    assert told["tuned"]["path"][0]["top"][0]["token"] == "Bonjour"
    assert told["why"]["most_shifted"][0]["change"] == 4.0
    assert told["nearest"] is None
    assert {"tier": "nearest", "reason": "Not asked for."} in told["missing"]
    assert told["seconds"] > 0
    request = _asked(server)
    assert (request.target.name, request.base and request.base.name, request.tiers) == (TUNED, BASE, ("A", "B"))
    assert (request.max_tokens, request.path, request.answer, request.layer) == (64, (), None, None)


def test_everything_that_is_asked_reaches_the_engine(server: ApiServer) -> None:
    fields = {"max_tokens": 8, "tiers": ["C", "A", "C"], "layer": 3, "token": 1, "path": [5, 6], "answer": "Bonjour"}
    told = _ask(server, model=BASE, base=TUNED, prompt="Good day", **fields)
    assert told["base"] == TUNED
    request = _asked(server)
    assert (request.prompt, request.messages, request.tiers) == ("Good day", None, ("A", "C"))
    assert (request.max_tokens, request.layer, request.token, request.path, request.answer) == (8, 3, 1, (5, 6), "Bonjour")


def test_a_base_model_alone_has_nothing_beside_it(server: ApiServer) -> None:
    assert _ask(server, model="gpt-4o-mini", messages=SAID)["base"] is None
    assert _asked(server).base is None


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"model": TUNED}, 400, "messages"),
        ({"model": TUNED, "messages": SAID, "prompt": "x"}, 400, "messages"),
        ({"model": TUNED, "messages": SAID, "max_tokens": 65}, 400, "max_tokens"),
        ({"model": TUNED, "messages": SAID, "tiers": ["D"]}, 400, "tiers[0]"),
        ({"model": "unknown", "messages": SAID}, 404, "model"),
        ({"model": TUNED, "base": "unknown", "messages": SAID}, 404, "base"),
    ],
)
def test_what_is_refused(server: ApiServer, body: dict[str, Any], status: int, param: str) -> None:
    assert _ask(server, status, **body)["error"]["param"] == param


def test_the_nearest_training_rows(server: ApiServer) -> None:
    without = _ask(server, model=TUNED, messages=SAID, nearest=True)
    assert without["nearest"] is None
    assert any(m["tier"] == "nearest" and "no training file" in m["reason"] for m in without["missing"])
    sha256, _ = server.services.blobs.put(ROWS)
    job = new_job(training_sha256=sha256)
    server.services.jobs.insert(job, [])
    record = server.services.models.get(TUNED)
    assert record is not None
    server.services.models.put(dataclasses.replace(record, job_id=job.id))
    told = _ask(server, model=TUNED, messages=SAID, nearest=True)
    assert [row["line"] for row in told["nearest"]] == [3, 1, 4]
    assert (told["nearest"][0]["answer"], told["nearest"][0]["shared"]) == ("Bonne journée", ["day", "good"])
    assert not [m for m in told["missing"] if m["tier"] == "nearest"]
    nothing = _ask(server, model=TUNED, prompt="zzz", nearest=True)
    assert nothing["nearest"] is None
    assert any("shares a telling word" in m["reason"] for m in nothing["missing"])
