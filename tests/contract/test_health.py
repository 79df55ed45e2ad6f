import time

from tests.support.api_server import ApiServer
from tests.support.fake_engine import BASE

ROLES = ("validate", "train", "data", "data-quick")


def beat(server: ApiServer, age: float) -> None:
    now = time.time() - age
    for role in ROLES:
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
        assert set(before.json()["reasons"]) == {f"worker.{role}" for role in ROLES}

        beat(server, age=0)
        assert http.get("/readyz").json() == {"status": "ready"}

        server.engine.loaded = ()
        assert set(http.get("/readyz").json()["reasons"]) == {"engine"}
        server.engine.loaded = (BASE,)

        # A data lane that waits for the fork server says nothing for longer.
        beat(server, age=30)
        stale = http.get("/readyz")
        assert (stale.status_code, set(stale.json()["reasons"])) == (503, {"worker.validate", "worker.train"})
        beat(server, age=70)
        assert set(http.get("/readyz").json()["reasons"]) == {f"worker.{role}" for role in ROLES}


def test_a_lane_for_dataset_tasks_that_is_gone_is_not_ready(server: ApiServer) -> None:
    beat(server, age=0)
    server.services.workers.beat("owner-data-quick", "data-quick", time.time() - 70)
    with server.http() as http:
        assert http.get("/readyz").json()["reasons"] == {
            "worker.data-quick": "The worker's lane 'data-quick' gave no sign of life in the last 60 seconds."
        }


def test_a_dead_engine_is_not_ready(server: ApiServer) -> None:
    secret, server.engine.secret = server.engine.secret, "another"
    try:
        with server.http() as http:
            assert "engine" in http.get("/readyz").json()["reasons"]
    finally:
        server.engine.secret = secret
