from collections.abc import Callable
from typing import Any

import openai
import pytest

from luthier.core.engine_messages import Unload
from tests.support.api_server import BASE_LICENCE, BASE_REVISION, TUNED, ApiServer
from tests.support.office import new_model

ON_THE_BASE = {"base": "luthier-mini", "base_revision": BASE_REVISION, "licence": BASE_LICENCE}


def own(model: Any) -> dict[str, Any]:
    return model.to_dict()["luthier"]


def test_all_served_models_are_listed(client: openai.OpenAI) -> None:
    listed = {m.id: m for m in client.models.list()}
    assert {"luthier-mini", TUNED} <= set(listed)
    assert (listed["luthier-mini"].owned_by, listed[TUNED].owned_by) == ("system", "luthier")
    assert own(listed["luthier-mini"]) == {"kind": "base", **ON_THE_BASE, "alias_of": None}
    assert own(listed[TUNED]) == {"kind": "adapter", **ON_THE_BASE, "alias_of": None, "job_id": "ftjob-1"}
    assert listed[TUNED].to_dict()["shutdown_date"] is None


def test_the_list_is_newest_first(server: ApiServer, client: openai.OpenAI) -> None:
    for name, created_at in (("ft:luthier-mini:luthier::order001", 50), ("ft:luthier-mini:luthier::order002:ckpt-step-3", 50)):
        server.services.models.put(new_model(name, created_at=created_at, step=3))
    ids = [m.id for m in client.models.list()]
    assert ids[-4:] == ["ft:luthier-mini:luthier::order002:ckpt-step-3", "ft:luthier-mini:luthier::order001", TUNED, "luthier-mini"]
    assert own(client.models.retrieve(ids[-4]))["step"] == 3


def test_one_model(client: openai.OpenAI) -> None:
    model = client.models.retrieve(TUNED)
    assert (model.id, model.object, model.created) == (TUNED, "model", 2)


def test_an_openai_name_shows_the_open_model_behind_it(client: openai.OpenAI) -> None:
    model = client.models.retrieve("gpt-4o-mini")
    assert (model.id, own(model)) == ("gpt-4o-mini", {"kind": "alias", **ON_THE_BASE, "alias_of": "luthier-mini"})


def test_a_percent_encoded_name_is_found(server: ApiServer) -> None:
    with server.http() as http:
        assert http.get("/v1/models/" + TUNED.replace(":", "%3A")).json()["id"] == TUNED


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    for call in (client.models.retrieve, client.models.delete):
        with pytest.raises(openai.NotFoundError) as error:
            call("gpt-nothing")
        assert (error.value.code, error.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("name", ["luthier-mini", "gpt-4o-mini"])
def test_base_models_stay(client: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        client.models.delete(name)
    assert client.models.retrieve(name).id == name


def test_a_deleted_model_is_gone_and_forgotten(server: ApiServer, client: openai.OpenAI, training_file: str) -> None:
    name = "ft:gpt-4o-mini-2024-07-18:luthier::ckpt0001:ckpt-step-88"
    server.services.models.put(new_model(name))
    deleted = client.models.delete(name)
    assert (deleted.id, deleted.deleted, deleted.object) == (name, True, "model")
    assert Unload(name=name) in server.engine.requests
    assert name not in {m.id for m in client.models.list()}
    calls: list[Callable[[], Any]] = [
        lambda: client.models.retrieve(name),
        lambda: client.models.delete(name),
        lambda: client.chat.completions.create(model=name, messages=[{"role": "user", "content": "hi"}]),
        lambda: client.completions.create(model=name, prompt="hi"),
        lambda: client.responses.create(model=name, input="hi"),
        lambda: client.responses.input_tokens.count(model=name, input="hi"),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError) as error:
            call()
        assert error.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(model=name, training_file=training_file)
    assert (refused.value.code, refused.value.param) == ("model_not_available", "model")
    assert not server.engine.generations


def test_a_deleted_model_leaves_its_job_and_its_other_checkpoints(server: ApiServer, client: openai.OpenAI) -> None:
    names = [f"ft:gpt-4o-mini-2024-07-18:luthier::stay000{n}" for n in (1, 2)]
    for name in names:
        server.services.models.put(new_model(name, job_id="ftjob-two"))
    client.models.delete(names[0])
    assert client.models.retrieve(names[1]).id == names[1]
