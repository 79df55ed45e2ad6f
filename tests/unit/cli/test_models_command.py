"""``luthier models`` and ``luthier aliases``: in the three forms, whatever the names look like."""

import json
from collections.abc import Iterator

import pytest

from tests.support.api_server import TUNED, ApiServer
from tests.support.command_line import one_line
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


def test_one_model_is_shown_in_words(run: Run, server: ApiServer) -> None:
    shown = run("models", "get", TUNED)
    assert shown.exit_code == 0, shown.stderr
    for part in (TUNED, "adapter", BASE, "cc-by-4.0", "ftjob-1"):
        assert part in shown.stdout
    with server.http() as http:
        assert json.loads(run("models", "get", TUNED, "--json").stdout) == http.get(f"/v1/models/{TUNED}").json()
    assert run("models", "get", TUNED, "-q").stdout == f"{TUNED}\n"


@pytest.mark.parametrize("action", ["get", "delete"])
def test_an_unknown_model_is_not_found(run: Run, action: str) -> None:
    result = run("models", action, "ft:nothing")
    assert result.exit_code == 4
    assert one_line(result).endswith("Try: luthier models list")


def test_a_deleted_model_answers_no_more(run: Run, server: ApiServer) -> None:
    name = "ft:luthier-mini:luthier:gone:abcd1234"
    server.services.models.put(new_model(name))
    assert json.loads(run("models", "delete", name, "--json").stdout) == {"id": name, "object": "model", "deleted": True}
    assert run("models", "get", name).exit_code == 4
    assert run("chat", name, "Hi").exit_code == 4


def test_what_may_not_be_deleted_has_a_code_and_a_sentence(run: Run, server: ApiServer) -> None:
    base = run("models", "delete", BASE)
    assert (base.exit_code, "Base models cannot be deleted." in one_line(base)) == (3, True)
    name = "ft:luthier-mini:luthier:held:abcd1234"
    server.services.models.put(new_model(name))
    assert run("aliases", "set", "held@x", name).exit_code == 0
    held = run("models", "delete", name)
    assert (held.exit_code, "the alias `held@x` stands for it" in one_line(held)) == (5, True)
    assert run("aliases", "delete", "held@x").exit_code == 0


NAMES = [("aliases", "set", "get", "rollback", "delete"), ("models", "alias", "aliases", "rollback", "unalias")]


@pytest.fixture(params=NAMES, ids=" ".join)
def words(request: pytest.FixtureRequest, server: ApiServer) -> Iterator[tuple[str, ...]]:
    """The same commands under their two names; the aliases of a test are gone after it."""
    yield request.param
    for alias in server.services.aliases.list():
        server.services.aliases.delete(alias.name, by="test")


def test_an_alias_is_made_moved_rolled_back_and_deleted(run: Run, server: ApiServer, words: tuple[str, ...]) -> None:
    group, put, get, rollback, delete = words
    with server.http() as http:

        def api() -> object:
            return http.get("/v1/luthier/aliases/prod@x").json()

        assert run(group, put, "prod@x", TUNED).stdout == f"prod@x -> {TUNED}\n"
        assert json.loads(run(group, put, "prod@x", BASE, "--json").stdout) == api()
        assert json.loads(run(group, get, "prod@x", "--json").stdout) == api()
        assert json.loads(run(group, rollback, "prod@x", "--json").stdout) == api()
    shown = run(group, get, "prod@x").stdout
    for part in (f"stands for  {TUNED}", "just now", "created", "moved", "rolled back"):
        assert part in shown
    assert run(group, get, "prod@x", "-q").stdout == "prod@x\n"
    assert run(group, put, "prod@x", BASE, "-q").stdout == "prod@x\n"
    assert run(group, rollback, "prod@x", "-q").stdout == "prod@x\n"
    assert json.loads(run(group, delete, "prod@x", "--json").stdout) == {"id": "prod@x", "object": "luthier.alias", "deleted": True}
    gone = run(group, get, "prod@x")
    assert gone.exit_code == 4
    assert one_line(gone).endswith("Try: luthier aliases list")


def test_aliases_are_listed(run: Run, server: ApiServer, words: tuple[str, ...]) -> None:
    listing = ("aliases", "list") if words[0] == "aliases" else ("models", "aliases")
    empty = run(*listing)
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "Nothing there yet.\n")
    for name in ("one@x", "two@x"):
        assert run(words[0], words[1], name, TUNED).exit_code == 0
    table = run(*listing).stdout
    assert table.index("two@x") < table.index("one@x")
    assert "database" in table
    assert run(*listing, "-q").stdout == "two@x\none@x\n"
    with server.http() as http:
        assert json.loads(run(*listing, "--json").stdout) == http.get("/v1/luthier/aliases").json()


def test_json_and_ids_exclude_each_other(run: Run) -> None:
    assert run("aliases", "list", "--json", "-q").exit_code == 2
