import time

from tests.support.api_server import ApiServer
from tests.support.fake_engine import BASE


def beat(server: ApiServer, age: float) -> None:
    now = time.time() - age
    for role in ("validate", "train"):
        server.services.workers.beat(f"owner-{role}", role, now)


def test_health_needs_no_key_and_no_engine(server: ApiServer) -> None:
    with server.http() as http:
        del http.headers["authorization"]
        answer = http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_readiness_is_truthful(server: ApiServer) -> None:
    with server.http() as http:
        del http.headers["authorization"]
        before = http.get("/readyz")
        assert before.status_code == 503
        assert set(before.json()["reasons"]) == {"worker.validate", "worker.train"}

        beat(server, age=0)
        assert http.get("/readyz").json() == {"status": "ready"}

        server.engine.loaded = ()
        assert set(http.get("/readyz").json()["reasons"]) == {"engine"}
        server.engine.loaded = (BASE,)

        beat(server, age=60)
        stale = http.get("/readyz")
        assert (stale.status_code, set(stale.json()["reasons"])) == (503, {"worker.validate", "worker.train"})


def test_a_dead_engine_is_not_ready(server: ApiServer) -> None:
    secret, server.engine.secret = server.engine.secret, "another"
    try:
        with server.http() as http:
            assert "engine" in http.get("/readyz").json()["reasons"]
    finally:
        server.engine.secret = secret
