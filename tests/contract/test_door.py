"""Who gets in, what every answer carries, and what errors look like: over all routes, taken from the route table."""

import logging
import socket
import time

import openai
import pytest

from luthier.api.app import OPEN_PATHS
from tests.support.api_server import KEY, ApiServer
from tests.support.routes import all_routes, filled


def all_requests(server: ApiServer) -> list[tuple[str, str]]:
    """Method and path of every route, with something in place of each parameter."""
    return [(method, filled(path)) for method, path in all_routes(server.app)]


def test_the_route_table_is_what_we_think(server: ApiServer) -> None:
    found = all_requests(server)
    assert ("POST", "/v1/chat/completions") in found
    assert ("GET", "/v1/luthier/jobs/x/trace") in found
    assert len(found) >= 20
    assert {path for _, path in found if not path.startswith("/v1/")} == OPEN_PATHS


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": "Bearer"},
        {"authorization": KEY},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": b"Bearer \xff\xfe"},
    ],
)
def test_every_route_needs_the_key(server: ApiServer, headers: dict[str, str]) -> None:
    with server.http() as http:
        del http.headers["authorization"]
        for method, path in all_requests(server):
            if path in OPEN_PATHS:
                continue
            answer = http.request(method, path, params={"api_key": KEY, "limit": "wrong"}, headers=headers)
            assert answer.status_code == 401, (method, path, answer.text)
            error = answer.json()["error"]
            assert error["type"] == "invalid_request_error"
            assert KEY not in answer.text
    assert not server.engine.requests


def test_the_clients_errors_for_keys(server: ApiServer) -> None:
    with pytest.raises(openai.AuthenticationError) as error:
        server.client().with_options(api_key="sk-wrong-key-0123456789abcdef").models.list()
    assert error.value.code == "invalid_api_key"
    assert "Incorrect API key provided: sk-********cdef" in error.value.message
    with server.http() as http:
        del http.headers["authorization"]
        missing = http.get("/v1/models")
    assert missing.json()["error"]["code"] is None
    assert missing.json()["error"]["message"].startswith("You didn't provide an API key.")


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1/?", "localhost#", "", "a b", "[::1", "localhost:99999999"]
)
def test_foreign_hosts_are_refused_before_anything_else(server: ApiServer, host: str) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    for path in ("/v1/models", "/healthz", "/nothing"):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as raw:
            raw.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while piece := raw.recv(65536):
                answer += piece
        assert answer.split(b" ")[1] in (b"403", b"400"), answer


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:8000", "testserver"])
def test_own_hosts_are_served(server: ApiServer, host: str) -> None:
    with server.http(host=host) as http:
        assert http.get("/v1/models").status_code == 200


def test_every_answer_carries_openais_headers(server: ApiServer) -> None:
    with server.http() as http:
        for path in ("/v1/models", "/v1/nothing", "/v1/models/nothing", "/healthz"):
            headers = http.get(path).headers
            assert headers["x-request-id"].startswith("req_")
            assert headers["openai-organization"] == "luthier"
            assert headers["openai-version"] == "2020-10-01"
            assert int(headers["openai-processing-ms"]) >= 0


def test_the_callers_own_request_id_is_logged(server: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="luthier.api"), server.http(**{"x-client-request-id": "mine-1"}) as http:
        request_id = http.get("/v1/models").headers["x-request-id"]
        # The line is written after the answer went out.
        deadline = time.monotonic() + 60
        while "mine-1" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
    assert request_id in caplog.text
    assert "mine-1" in caplog.text
    assert KEY not in caplog.text


def test_unknown_routes_and_wrong_verbs(server: ApiServer) -> None:
    with server.http() as http:
        unknown = http.post("/v1/nothing")
        wrong = http.get("/v1/completions")
        slash = http.get("/v1/files/")
    assert unknown.status_code == 404
    assert unknown.json()["error"] == {
        "message": "Invalid URL (POST /v1/nothing)",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_supported")
    assert wrong.headers["allow"] == "POST"
    assert slash.status_code == 404


@pytest.mark.parametrize(
    ("content", "media_type", "code"),
    [
        (b"{", "application/json", None),
        (b'{"a": NaN}', "application/json", None),
        (b"[" * 100_000, "application/json", None),
        (b"[]", "application/json", "invalid_type"),
        (b"", "application/json", None),
        (b"{}", "text/plain", "unsupported_content_type"),
        (b"{}", "", "unsupported_content_type"),
    ],
)
def test_bodies_that_are_no_json_objects(server: ApiServer, content: bytes, media_type: str, code: str | None) -> None:
    with server.http() as http:
        answer = http.post("/v1/chat/completions", content=content, headers={"content-type": media_type})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code


@pytest.mark.usefixtures("ending_streams")
def test_no_request_of_the_table_gets_a_fault_of_ours(server: ApiServer) -> None:
    with server.http() as http:
        for method, path in all_requests(server):
            answer = http.request(method, path, json={"model": 5, "😀": [1]} if method == "POST" else None)
            assert answer.status_code < 500 or path == "/readyz", (method, path, answer.text)
            assert answer.headers["content-type"].startswith("text/event-stream") or "detail" not in answer.json()


def test_a_fault_of_ours_tells_nothing(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret /some/path 0x7f00")

    monkeypatch.setattr("luthier.api.routes.models.model_object", broken)
    with server.http() as http:
        answer = http.get("/v1/models")
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["x-request-id"].startswith("req_")
