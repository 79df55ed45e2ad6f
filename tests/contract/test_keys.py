"""Keys and roles: who may do what on every route of the table, and the calls that make, list and revoke keys."""

import re
import socket
from collections.abc import Iterator

import httpx2
import openai
import pytest

from luthier.api.access import TABLE
from luthier.api.app import OPEN_PATHS
from luthier.core.engine_messages import Status
from luthier.core.keys import DEFAULT_PROJECT, first_key_id
from tests.support.api_server import KEY, ApiServer
from tests.support.routes import all_routes, filled

ADMINS = (
    "/v1/luthier/keys",
    "/v1/luthier/projects",
    "/v1/luthier/aliases",
    "/v1/webhook_endpoints",
    "/v1/fine_tuning/checkpoints",
)


def may(role: str, method: str, path: str) -> bool:
    """The rule as the guide has it, apart from the table that the server goes by."""
    if role == "admin":
        return True
    if any(path == begin or path.startswith(begin + "/") for begin in ADMINS):
        return False
    return role == "member" or method == "GET"


def guarded(server: ApiServer) -> list[tuple[str, str]]:
    found = [(method, filled(path)) for method, path in all_routes(server.app) if path not in OPEN_PATHS]
    assert len(found) >= 50
    return found


@pytest.fixture
def admin(server: ApiServer) -> Iterator[httpx2.Client]:
    with server.http() as http:
        yield http


def test_every_route_stands_in_the_table_of_roles(server: ApiServer) -> None:
    known = tuple(TABLE)
    forgotten = [path for _, path in guarded(server) if not any(path == begin or path.startswith(begin + "/") for begin in known)]
    assert forgotten == []
    unused = [begin for begin in known if not any(path == begin or path.startswith(begin + "/") for _, path in guarded(server))]
    assert unused == []


@pytest.mark.parametrize("role", ["read-only", "member", "admin"])
@pytest.mark.usefixtures("ending_streams")
def test_every_route_with_a_key_of_each_role(server: ApiServer, role: str) -> None:
    with server.http(server.new_key(role)) as http:
        for method, path in guarded(server):
            answer = http.request(method, path)
            told = (role, method, path, answer.text)
            if may(role, method, path):
                assert answer.status_code not in (401, 403), told
                continue
            assert answer.status_code == 403, told
            error = answer.json()["error"]
            assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "missing_scope", None), told
            assert error["message"].startswith("You have insufficient permissions for this operation. Missing scopes: api."), told
    assert all(isinstance(request, Status) for request in server.engine.requests), "only how the engine is may be asked"


def test_a_revoked_key_is_a_wrong_one_on_every_route(server: ApiServer, admin: httpx2.Client) -> None:
    made = admin.post("/v1/luthier/keys", json={"name": "short-lived", "role": "admin"}).json()
    with server.http(made["value"]) as http:
        assert http.get("/v1/models").status_code == 200
        assert admin.delete(f"/v1/luthier/keys/{made['id']}").json() == {
            "id": made["id"],
            "object": "luthier.api_key",
            "deleted": True,
        }
        for method, path in guarded(server):
            answer = http.request(method, path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key"), (method, path)
            assert made["value"] not in answer.text
    with pytest.raises(openai.AuthenticationError):
        server.client(api_key=made["value"]).models.list()


def odd_targets(path: str) -> tuple[str, ...]:
    """Other spellings of a path, which no rule on paths may be fooled by."""
    first, last = path[1:].split("/")[0], path.rsplit("/", 1)[1]
    return (
        "/" + path,
        f"{path}.",
        f"{path}/.",
        f"/x/%2e%2e{path}",
        f"/{first}/..{path}",
        path.replace("/v1/", "/v1//"),
        path.replace("/v1/", "/v1/%2e/"),
        path.replace(f"/{last}", f"/%{ord(last[0]):x}{last[1:]}"),
        f"http://evil.example{path}",
        f"{path};x",
    )


def raw_status(server: ApiServer, method: str, target: str, *headers: str) -> int:
    port = int(server.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as raw:
        lines = [f"{method} {target} HTTP/1.1", *headers, "Content-Length: 0", "Connection: close"]
        raw.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = b""
        while piece := raw.recv(65536):
            answer += piece
    return int(answer.split(b" ")[1])


@pytest.mark.usefixtures("ending_streams")
def test_odd_spellings_of_every_route_open_nothing(server: ApiServer) -> None:
    host = "Host: localhost"
    weak = f"Authorization: Bearer {server.new_key('read-only')}"
    for method, path in guarded(server):
        for target in odd_targets(path):
            assert raw_status(server, method, target, host) in (400, 401, 403, 404, 405), (method, target)
            status = raw_status(server, method, target, host, weak)
            assert may("read-only", method, path) or status in (400, 401, 403, 404, 405), (method, target, status)
    assert all(isinstance(request, Status) for request in server.engine.requests), "only how the engine is may be asked"


@pytest.mark.parametrize("host", ["a/?", "a#", "localhost@evil.example"])
def test_odd_hosts_open_nothing(server: ApiServer, host: str) -> None:
    for method, path in guarded(server):
        assert raw_status(server, method, path, f"Host: {host}", f"Authorization: Bearer {KEY}") in (400, 403), (method, path)


def test_a_key_is_shown_once(server: ApiServer, admin: httpx2.Client) -> None:
    made = admin.post("/v1/luthier/keys", json={"name": "ci", "limits": {"jobs_per_day": 3}}).json()
    value = made.pop("value")
    assert re.fullmatch(r"sk-luthier-[0-9A-Za-z]{40}", value)
    assert re.fullmatch(r"key_[0-9A-Za-z]{24}", made["id"])
    assert made == {
        "id": made["id"],
        "object": "luthier.api_key",
        "name": "ci",
        "role": "member",
        "project_id": DEFAULT_PROJECT,
        "redacted_value": f"sk-********{value[-4:]}",
        "created_at": made["created_at"],
        "created_by": first_key_id(KEY),
        "revoked_at": None,
        "limits": {"requests_per_minute": None, "tokens_per_minute": None, "concurrent_generations": None, "jobs_per_day": 3},
    }
    assert admin.get(f"/v1/luthier/keys/{made['id']}").json() == made
    listed = admin.get("/v1/luthier/keys")
    assert made in listed.json()["data"]
    assert value not in listed.text
    assert value.encode() not in server.services.settings.state_database.read_bytes()
    assert server.client(api_key=value).models.list().data


def test_the_first_key_is_listed_last_and_changed_only_in_its_file(admin: httpx2.Client) -> None:
    first = admin.get("/v1/luthier/keys").json()["data"][-1]
    assert (first["id"], first["role"], first["project_id"]) == (first_key_id(KEY), "admin", DEFAULT_PROJECT)
    assert admin.get(f"/v1/luthier/keys/{first['id']}").json() == first
    for answer in (admin.delete(f"/v1/luthier/keys/{first['id']}"), admin.post(f"/v1/luthier/keys/{first['id']}", json={"name": "x"})):
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "first_key")


def test_a_keys_name_and_limits_change(admin: httpx2.Client) -> None:
    made = admin.post("/v1/luthier/keys", json={"name": "a", "limits": {"jobs_per_day": 3, "tokens_per_minute": 5}}).json()
    path = f"/v1/luthier/keys/{made['id']}"
    changed = admin.post(path, json={"name": "b", "limits": {"jobs_per_day": 0, "tokens_per_minute": None}}).json()
    assert changed["name"] == "b"
    assert (changed["limits"]["jobs_per_day"], changed["limits"]["tokens_per_minute"]) == (0, None)
    assert admin.post(path, json={}).json() == changed


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "name"),
        ({"name": ""}, "string_below_min_length", "name"),
        ({"name": "x", "role": "owner"}, "invalid_value", "role"),
        ({"name": "x", "project_id": "proj_nothing"}, "invalid_value", "project_id"),
        ({"name": "x", "limits": {"jobs_per_day": -1}}, "integer_below_min_value", "limits.jobs_per_day"),
        ({"name": "x", "limits": {"jobs": 1}}, "unknown_parameter", "limits.jobs"),
        ({"name": "x", "value": "sk-mine"}, "unknown_parameter", "value"),
    ],
)
def test_bad_bodies_make_no_key(admin: httpx2.Client, body: dict[str, object], code: str, param: str) -> None:
    before = admin.get("/v1/luthier/keys").json()
    answer = admin.post("/v1/luthier/keys", json=body)
    assert (answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["param"]) == (400, code, param)
    assert admin.get("/v1/luthier/keys").json() == before


def test_what_is_not_there(admin: httpx2.Client) -> None:
    for answer in (
        admin.get("/v1/luthier/keys/key_x"),
        admin.post("/v1/luthier/keys/key_x", json={"name": "x"}),
        admin.delete("/v1/luthier/keys/key_x"),
        admin.get("/v1/luthier/projects/proj_x"),
    ):
        assert answer.status_code == 404
        assert answer.json()["error"]["message"].startswith("No such ")


def test_projects_are_made_and_listed(admin: httpx2.Client) -> None:
    made = admin.post("/v1/luthier/projects", json={"name": "support"}).json()
    assert re.fullmatch(r"proj_[0-9A-Za-z]{24}", made["id"])
    assert admin.get(f"/v1/luthier/projects/{made['id']}").json() == made
    listed = admin.get("/v1/luthier/projects").json()["data"]
    assert made in listed
    assert listed[-1]["id"] == DEFAULT_PROJECT
    key = admin.post("/v1/luthier/keys", json={"name": "x", "project_id": made["id"]}).json()
    of_project = admin.get("/v1/luthier/keys", params={"project_id": made["id"]}).json()["data"]
    assert [k["id"] for k in of_project] == [key["id"]]


def test_account_headers_from_elsewhere_are_ignored(server: ApiServer) -> None:
    client = server.client(organization="org-abc", project="proj_from_elsewhere")
    answer = client.models.with_raw_response.list()
    assert answer.headers["openai-project"] == DEFAULT_PROJECT
    assert answer.headers["openai-organization"] == "luthier"


def test_a_header_of_another_project_of_this_server_is_refused(server: ApiServer) -> None:
    other = server.new_project("other")
    with pytest.raises(openai.AuthenticationError) as error:
        server.client(project=other).models.list()
    assert error.value.code == "mismatched_project"
    assert "OpenAI-Project header should match project for API key" in error.value.message
    assert server.client(api_key=server.new_key(project_id=other), project=other).models.list().data


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path_factory.mktemp("strict") / "data", strict_account_headers=True, bad_keys_per_minute=20)
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"organization": "org-abc"}, "mismatched_organization"),
        ({"project": "proj_x"}, "mismatched_project"),
        ({"organization": "org-luthier", "project": DEFAULT_PROJECT}, None),
        ({"organization": "luthier"}, None),
    ],
)
def test_account_headers_where_the_operator_wants_them_checked(strict: ApiServer, options: dict[str, str], code: str | None) -> None:
    client = strict.client(**options)
    if code is None:
        assert client.models.list().data
        return
    with pytest.raises(openai.AuthenticationError) as error:
        client.models.list()
    assert error.value.code == code


def test_an_address_that_searches_for_keys_is_stopped(strict: ApiServer) -> None:
    with strict.http("sk-an-old-key-that-a-script-still-has") as http:
        assert {http.get("/v1/models").status_code for _ in range(30)} == {401}
    with strict.http() as http:
        statuses = [http.get("/v1/models", headers={"authorization": f"Bearer sk-wrong-{n}"}).status_code for n in range(25)]
        assert statuses == [401] * 19 + [429] * 6
        # Else the answer to a right guess would stand out.
        stopped = http.get("/v1/models")
    assert (stopped.status_code, stopped.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(stopped.headers["retry-after"]) <= 60
