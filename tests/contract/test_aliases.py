"""Aliases over the wire: made, moved, rolled back, trained and talked to with the official client."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from click.testing import CliRunner, Result

from luthier.cli.models import models as models_command
from luthier.core.jobs import ModelKind
from luthier.core.keys import first_key_id
from tests.support.api_server import BASE_LICENCE, BASE_REVISION, KEY, TUNED, ApiServer
from tests.support.office import new_model

SECOND_BASE = "second-base"
SECOND_TUNED = "ft:gpt-4o-mini-2024-07-18:luthier:demo:efgh5678"
OLD_NAME = "ft:gpt-4o-mini-2024-07-18:acme::AbC123"
DEFAULTS = {"team@default": "luthier-mini", "lost@default": "never-there"}
BASE_NAME = "gpt-4o-mini-2024-07-18"


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    folder = tmp_path_factory.mktemp("api") / "data"
    server = ApiServer(folder, spec_strict=True, aliases=DEFAULTS, shutdown_dates={BASE_NAME: "2027-01-14"})
    server.services.models.put(
        new_model(SECOND_BASE, kind=ModelKind.BASE, base=SECOND_BASE, path="bases/second", revision="b2" * 32, licence="apache-2.0")
    )
    server.services.models.put(new_model(SECOND_TUNED, base=SECOND_BASE, path="models/two", sha256="d" * 64))
    yield server
    server.stop()


@pytest.fixture
def http(server: ApiServer) -> Iterator[httpx2.Client]:
    """A plain client; every alias is gone after the test."""
    with server.http() as client:
        yield client
        for alias in server.services.aliases.list():
            server.services.aliases.delete(alias.name, by="test")


def post(http: httpx2.Client, path: str, status: int = 200, **body: str) -> dict[str, Any]:
    reply = http.post(f"/v1/luthier/aliases{path}", json=body or None)
    assert reply.status_code == status, reply.text
    return reply.json()


def ask(server: ApiServer, client: openai.OpenAI, model: str) -> tuple[str, str]:
    """The name that the answer shows, and the model that the engine was asked for."""
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
    return answer.model, server.engine.generations[-1].target.name


def test_a_chat_follows_the_alias(server: ApiServer, client: openai.OpenAI, http: httpx2.Client) -> None:
    post(http, "", name="support@prod", target=TUNED)
    assert ask(server, client, "support@prod") == ("support@prod", TUNED)
    post(http, "/support@prod", target=SECOND_TUNED)
    assert ask(server, client, "support@prod") == ("support@prod", SECOND_TUNED)
    assert post(http, "/support@prod/rollback")["target"] == TUNED
    assert ask(server, client, "support@prod") == ("support@prod", TUNED)
    completion = client.completions.create(model="support@prod", prompt="hi")
    assert (completion.model, server.engine.generations[-1].target.name) == ("support@prod", TUNED)
    assert http.delete("/v1/luthier/aliases/support@prod").json() == {"id": "support@prod", "object": "luthier.alias", "deleted": True}
    with pytest.raises(openai.NotFoundError) as error:
        ask(server, client, "support@prod")
    assert (error.value.code, error.value.param) == ("model_not_found", "model")


def test_a_job_on_an_aliased_base_keeps_the_asked_name(client: openai.OpenAI, http: httpx2.Client, training_file: str) -> None:
    post(http, "", name=BASE_NAME, target=SECOND_BASE)
    for name in (BASE_NAME, "gpt-4o-mini"):
        job = client.fine_tuning.jobs.create(model=name, training_file=training_file)
        assert (job.model, job.to_dict()["luthier"]["base"]) == (BASE_NAME, SECOND_BASE)  # type: ignore[index]
    other = client.fine_tuning.jobs.create(model="gpt-4.1-mini-2025-04-14", training_file=training_file)
    assert other.to_dict()["luthier"]["base"] == "luthier-mini"  # type: ignore[index]
    model = client.models.retrieve(BASE_NAME).to_dict()
    assert model["shutdown_date"] == "2027-01-14"
    assert model["luthier"] == {
        "kind": "alias",
        "base": SECOND_BASE,
        "base_revision": "b2" * 32,
        "licence": "apache-2.0",
        "alias_of": SECOND_BASE,
    }


def test_an_old_name_answers_and_its_tuning_goes_on(
    server: ApiServer, client: openai.OpenAI, http: httpx2.Client, training_file: str
) -> None:
    post(http, "", name=OLD_NAME, target=TUNED)
    assert ask(server, client, OLD_NAME) == (OLD_NAME, TUNED)
    job = client.fine_tuning.jobs.create(model=OLD_NAME, training_file=training_file)
    own: Any = job.to_dict()["luthier"]
    assert (job.model, own["base"], own["parent_model"]) == (BASE_NAME, "luthier-mini", TUNED)


@pytest.mark.parametrize("shape", [OLD_NAME, OLD_NAME.replace(":", "%3A")])
def test_names_with_colons_stand_in_paths(http: httpx2.Client, shape: str) -> None:
    post(http, "", name=OLD_NAME, target=TUNED)
    assert post(http, f"/{shape}", target=SECOND_TUNED)["id"] == OLD_NAME
    assert post(http, f"/{shape}/rollback")["target"] == TUNED
    assert http.get(f"/v1/luthier/aliases/{shape}").json()["target"] == TUNED
    assert http.delete(f"/v1/luthier/aliases/{shape}").status_code == 200


def test_the_history_says_who_when_from_and_to(http: httpx2.Client) -> None:
    post(http, "", name="history@x", target=TUNED)
    post(http, "/history@x", target=SECOND_TUNED)
    shown = post(http, "/history@x/rollback")
    assert shown == http.get("/v1/luthier/aliases/history@x").json()
    assert [(c["action"], c["from"], c["to"]) for c in shown["history"]] == [
        ("rolled_back", SECOND_TUNED, TUNED),
        ("moved", TUNED, SECOND_TUNED),
        ("created", None, TUNED),
    ]
    assert {c["changed_by"] for c in shown["history"]} == {first_key_id(KEY)}
    assert all(c["changed_at"] >= shown["created_at"] for c in shown["history"])


def test_aliases_are_listed_with_the_models(client: openai.OpenAI, http: httpx2.Client) -> None:
    post(http, "", name="listed@x", target=TUNED)
    listed = list(client.models.list())
    assert listed[0].id == "listed@x"  # the newest
    assert listed[0].owned_by == "luthier"
    own: Any = listed[0].to_dict()["luthier"]
    expected = {"base": "luthier-mini", "base_revision": BASE_REVISION, "licence": BASE_LICENCE, "alias_of": TUNED, "kind": "alias"}
    assert own == expected
    assert client.models.retrieve("listed@x").to_dict() == listed[0].to_dict()
    ids = {m.id for m in listed}
    assert "team@default" in ids
    assert "lost@default" not in ids


def test_the_operators_aliases_answer_until_they_are_overridden(server: ApiServer, client: openai.OpenAI, http: httpx2.Client) -> None:
    assert ask(server, client, "team@default") == ("team@default", "luthier-mini")
    listed = {a["id"]: a for a in http.get("/v1/luthier/aliases").json()["data"]}
    assert (listed["team@default"]["set_in"], listed["team@default"]["target"]) == ("settings", "luthier-mini")
    assert http.delete("/v1/luthier/aliases/team@default").json()["error"]["code"] == "alias_in_settings"
    moved = post(http, "/team@default", target=TUNED)
    assert (moved["set_in"], moved["default_target"]) == ("database", "luthier-mini")
    assert ask(server, client, "team@default") == ("team@default", TUNED)
    assert post(http, "/team@default/rollback")["target"] == "luthier-mini"
    assert http.delete("/v1/luthier/aliases/team@default").status_code == 200
    assert http.get("/v1/luthier/aliases/team@default").json()["set_in"] == "settings"


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        ("", {"name": "x@y", "target": "nothing"}, 404, "model_not_found", "target"),
        ("", {"name": "x@y", "target": "there@x"}, 400, "alias_of_alias", "target"),
        ("", {"name": "x@y", "target": "team@default"}, 400, "alias_of_alias", "target"),
        ("", {"name": "x@y", "target": "gpt-4.1"}, 400, "alias_of_alias", "target"),
        ("", {"name": "there@x", "target": TUNED}, 400, "alias_exists", "name"),
        ("", {"name": "luthier-mini", "target": SECOND_BASE}, 400, "model_exists", "name"),
        ("", {"name": TUNED, "target": SECOND_BASE}, 400, "model_exists", "name"),
        ("", {"name": "x y", "target": TUNED}, 400, "invalid_value", "name"),
        ("", {"name": "x@y"}, 400, "missing_required_parameter", "target"),
        ("", {"name": "x@y", "target": TUNED, "force": "yes"}, 400, "unknown_parameter", "force"),
        ("/nothing@x", {"target": TUNED}, 404, "alias_not_found", "name"),
        ("/there@x", {"target": "nothing"}, 404, "model_not_found", "target"),
        ("/there@x", {"name": "z", "target": TUNED}, 400, "unknown_parameter", "name"),
        ("/there@x/rollback", {}, 400, "no_earlier_target", "name"),
        ("/nothing@x/rollback", {}, 404, "alias_not_found", "name"),
    ],
)
def test_what_cannot_be_is_refused(http: httpx2.Client, path: str, body: dict[str, str], status: int, code: str, param: str) -> None:
    post(http, "", name="there@x", target=TUNED)
    before = http.get("/v1/luthier/aliases").json()
    error = post(http, path, status, **body)["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert http.get("/v1/luthier/aliases").json() == before


def test_an_unknown_alias_is_not_found(http: httpx2.Client) -> None:
    for reply in (http.get("/v1/luthier/aliases/nothing@x"), http.delete("/v1/luthier/aliases/nothing@x")):
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "alias_not_found")


def test_an_alias_is_not_deleted_as_a_model_and_its_model_stays(client: openai.OpenAI, http: httpx2.Client) -> None:
    post(http, "", name="kept@x", target=TUNED)
    with pytest.raises(openai.BadRequestError, match=r"HINT: DELETE /v1/luthier/aliases/kept@x") as error:
        client.models.delete("kept@x")
    assert error.value.param == "model"
    with pytest.raises(openai.BadRequestError, match="the alias `kept@x` stands for it"):
        client.models.delete(TUNED)
    assert client.models.retrieve(TUNED).id == TUNED


def run(server: ApiServer, *arguments: str) -> Result:
    return CliRunner().invoke(models_command, [*arguments, "--url", server.url, "--api-key", KEY])


def test_the_commands_do_the_same(server: ApiServer, client: openai.OpenAI, http: httpx2.Client, tmp_path: Path) -> None:
    assert run(server, "alias", OLD_NAME, TUNED).output == f"{OLD_NAME} -> {TUNED}\n"
    assert run(server, "alias", OLD_NAME, SECOND_TUNED).exit_code == 0
    assert ask(server, client, OLD_NAME)[1] == SECOND_TUNED
    assert run(server, "rollback", OLD_NAME).output == f"{OLD_NAME} -> {TUNED}\n"
    listed = run(server, "aliases").output
    assert "settings" in listed
    assert "database" in listed
    history = run(server, "aliases", OLD_NAME).output
    assert [word for word in ("created", "moved", "rolled back") if word not in history] == []
    assert "alias" in run(server, "list").output
    assert run(server, "unalias", OLD_NAME).exit_code == 0
    refused = run(server, "alias", "x@y", "nothing")
    assert refused.exit_code == 1
    assert "does not exist" in str(refused.exception)
