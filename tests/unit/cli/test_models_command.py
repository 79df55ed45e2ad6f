"""``luthier models``: what it lists, in the three forms, whatever the names look like."""

import json

from tests.support.api_server import TUNED, ApiServer
from tests.support.fake_engine import BASE
from tests.support.office import new_model
from tests.unit.cli.conftest import Run

# rich would make a cross of ``:x:``, and a style of what stands in brackets.
EMOJI = "ft:luthier-mini:luthier:x:abcd1234"


def test_names_are_shown_as_they_are(run: Run, server: ApiServer) -> None:
    server.services.models.put(new_model(EMOJI))
    table = run("models", "list").stdout
    for name in (BASE, TUNED, EMOJI):
        assert name in table
    assert run("models", "alias", "short", EMOJI).exit_code == 0
    assert EMOJI in run("models", "aliases").stdout
    assert EMOJI in run("models", "aliases", "short").stdout
    assert EMOJI in run("models", "list", "-q").stdout.splitlines()


def test_json_is_the_apis_list(run: Run, server: ApiServer) -> None:
    with server.http() as http:
        assert json.loads(run("models", "list", "--json").stdout) == http.get("/v1/models").json()


def test_an_unknown_target_names_the_list(run: Run) -> None:
    result = run("models", "alias", "short2", "ft:nothing")
    assert result.exit_code == 4
    assert "Try: luthier " in result.stderr
