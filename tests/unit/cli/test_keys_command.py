"""``luthier keys`` and ``luthier projects``: a key is shown once, works as its role says, and ends when it is revoked."""

import json
import re

from tests.support.api_server import KEY, ApiServer
from tests.support.command_line import luthier, one_line
from tests.unit.cli.conftest import Run


def test_a_key_is_shown_once_with_what_it_may_do(run: Run, server: ApiServer) -> None:
    project = run("projects", "create", "support", "-q").stdout.strip()
    made = run("keys", "create", "ci", "--role", "read-only", "--project", project, "--jobs-per-day", "3", "--tokens-per-minute", "0")
    assert made.exit_code == 0
    (value,) = re.findall(r"sk-luthier-\w{40}", made.stdout)
    assert "not shown again" in made.stderr
    assert value not in made.stderr
    for text in ("ci", "read-only", project, "jobs_per_day 3", "tokens_per_minute unlimited"):
        assert text in made.stdout
    listed = run("keys", "list").stdout
    assert value not in listed
    assert f"********{value[-4:]}" in listed
    assert run("keys", "list", "--project", project, "-q").stdout.count("key_") == 1
    assert luthier("files", "list", url=server.url, key=value).exit_code == 0
    assert luthier("files", "delete", "file-x", url=server.url, key=value).exit_code == 3


def test_quiet_prints_the_key_alone(run: Run, server: ApiServer) -> None:
    value = run("keys", "create", "ci", "-q").stdout
    assert re.fullmatch(r"sk-luthier-\w{40}\n", value)
    assert luthier("models", "list", url=server.url, key=value.strip()).exit_code == 0


def test_json_is_the_apis(run: Run, server: ApiServer) -> None:
    made = json.loads(run("keys", "create", "ci", "--json").stdout)
    assert (made["object"], made["role"], made["name"]) == ("luthier.api_key", "member", "ci")
    with server.http() as http:
        assert json.loads(run("keys", "list", "--json").stdout) == http.get("/v1/luthier/keys").json()
        assert json.loads(run("projects", "list", "--json").stdout) == http.get("/v1/luthier/projects").json()


def test_a_revoked_key_is_refused(run: Run, server: ApiServer) -> None:
    made = json.loads(run("keys", "create", "ci", "--json").stdout)
    assert run("keys", "revoke", made["id"], "-q").stdout == made["id"] + "\n"
    refused = luthier("models", "list", url=server.url, key=made["value"])
    assert refused.exit_code == 3
    assert made["value"] not in one_line(refused)
    assert made["id"] in run("keys", "list").stdout


def test_what_is_not_there_names_the_list(run: Run) -> None:
    result = run("keys", "revoke", "key_x")
    assert result.exit_code == 4
    assert one_line(result).endswith("Try: luthier keys list")


def test_a_member_makes_no_keys(run: Run, server: ApiServer) -> None:
    key = run("keys", "create", "ci", "-q").stdout.strip()
    for arguments in (("keys", "create", "more"), ("keys", "list"), ("projects", "create", "x"), ("projects", "list")):
        result = luthier(*arguments, url=server.url, key=key)
        assert result.exit_code == 3
        assert "You have insufficient permissions" in one_line(result)


def test_an_unknown_project_makes_no_key(run: Run) -> None:
    before = run("keys", "list", "-q").stdout
    result = run("keys", "create", "ci", "--project", "proj_nothing")
    assert result.exit_code == 5
    assert run("keys", "list", "-q").stdout == before


def test_the_first_key_cannot_be_revoked(run: Run) -> None:
    first = run("keys", "list", "-q").stdout.split()[-1]
    result = run("keys", "revoke", first)
    assert result.exit_code == 5
    assert "only there it can be changed" in result.stderr
    assert KEY not in result.stderr
