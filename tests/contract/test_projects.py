"""Projects: what one project's key makes is for another's as if it did not exist, on every route that takes an id."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
import pytest

from luthier.core.jobs import JobStatus
from tests.support.api_server import TUNED, ApiServer
from tests.support.data_worker import DataWorker
from tests.support.fake_engine import BASE
from tests.support.office import new_checkpoint, new_model, note
from tests.support.routes import all_routes

ROWS = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}\n' * 10
REQUESTS = b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "luthier-mini", "messages": []}}\n'
SAID: Any = [{"role": "user", "content": "hi"}]
TRAINED = "ft:gpt-4o-mini-2024-07-18:luthier:theirs:abcd4321"


@dataclass
class Tenant:
    """A project with a member's key, and an id of each kind of thing that it has."""

    project: str
    client: openai.OpenAI
    http: httpx2.Client
    ids: dict[str, str] = field(default_factory=dict)


def tenant(server: ApiServer, name: str) -> Tenant:
    project = server.new_project(name)
    key = server.new_key(project_id=project)
    return Tenant(project, server.client(api_key=key), server.http(key))


def furnish(server: ApiServer, owner: Tenant) -> None:
    """One thing of each kind, made over the API where it can be."""
    client, services = owner.client, server.services
    file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
    upload = client.uploads.create(bytes=10, filename="x.jsonl", mime_type="text/jsonl", purpose="fine-tune")
    part = client.uploads.parts.create(upload.id, data=b"x")
    job = client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    leased = services.queue.lease("owner-test", [JobStatus.VALIDATING_FILES])
    assert leased is not None
    assert leased.id == job.id
    point = new_checkpoint(job.id, 1, model_name=f"{TRAINED}:ckpt-step-1")
    models = [new_model(TRAINED, job_id=job.id), new_model(point.model_name, job_id=job.id)]
    services.jobs.update(job.id, fence=leased.fence, events=[note("hello")], checkpoints=[point], models=models)
    completion = client.chat.completions.create(model=BASE, messages=SAID, store=True)
    response = client.responses.create(model=BASE, input="hi")
    requests = client.files.create(file=("requests.jsonl", REQUESTS), purpose="batch")
    batch = client.batches.create(input_file_id=requests.id, endpoint="/v1/chat/completions", completion_window="24h")
    while services.batches.active():
        time.sleep(0.02)
    task: Any = client.post("/luthier/datasets/check", body={"file_id": file.id}, cast_to=object)
    with DataWorker(services.settings):
        while (current := services.dataset_tasks.get(task["id"])) is None or not current.status.is_final:
            time.sleep(0.02)
    for extra in services.files.list(purpose="batch_output").items:
        services.files.delete(extra.id)
    services.files.delete(requests.id)
    owner.ids = {
        "batch_id": batch.id,
        "task_id": task["id"],
        "file_id": file.id,
        "upload_id": upload.id,
        "part_id": part.id,
        "job_id": job.id,
        "name": TRAINED,
        "completion_id": completion.id,
        "response_id": response.id,
        "item_id": response.output[0].id or "",
        "event_id": client.fine_tuning.jobs.list_events(job.id).data[0].id,
    }


@pytest.fixture
def owner(server: ApiServer) -> Iterator[Tenant]:
    found = tenant(server, "owner")
    furnish(server, found)
    yield found
    services = server.services
    services.control.cancel(found.ids["job_id"])
    for record in services.models.list():
        if record.name.startswith(TRAINED):
            services.models.delete(record.name)
    found.http.close()


@pytest.fixture
def stranger(server: ApiServer) -> Iterator[Tenant]:
    found = tenant(server, "stranger")
    yield found
    found.http.close()


BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/v1/uploads/{upload_id}/parts"): {"files": {"data": b"x"}},
    ("POST", "/v1/uploads/{upload_id}/complete"): {"json": {"part_ids": ["part_x"]}},
    ("POST", "/v1/chat/completions/{completion_id}"): {"json": {"metadata": {"a": "b"}}},
}
"""What a request needs to get as far as its id."""

SERVERS = ("/v1/luthier/keys", "/v1/luthier/projects", "/v1/luthier/aliases", "/v1/webhook_endpoints", "/v1/fine_tuning/checkpoints")
"""Routes over all projects, for admins alone (test_keys.py)."""


def missing_id(real: str) -> str:
    """An id of the same shape that nobody has."""
    return real[:-6] + ("000000" if not real.endswith("000000") else "111111")


def with_ids(server: ApiServer) -> list[tuple[str, str, str]]:
    """Method, path and parameter of every route of a project's things that takes an id."""
    found = []
    for method, path in all_routes(server.app):
        named = [part.strip("{}").partition(":")[0] for part in path.split("/") if part.startswith("{")]
        if named and not path.startswith(SERVERS):
            assert len(named) == 1, path
            found.append((method, path, named[0]))
    assert len(found) >= 20
    return found


def at(path: str, value: str) -> str:
    return "/".join(value if part.startswith("{") else part for part in path.split("/"))


def test_an_id_of_another_project_is_answered_like_one_that_nobody_has(server: ApiServer, owner: Tenant, stranger: Tenant) -> None:
    for method, path, parameter in with_ids(server):
        real = owner.ids[parameter]
        missing = missing_id(real)
        sent = BODIES.get((method, path), {})
        theirs = stranger.http.request(method, at(path, real), **sent)
        nobodys = stranger.http.request(method, at(path, missing), **sent)
        told = (method, path, theirs.text)
        assert theirs.status_code in (400, 404), told
        assert theirs.status_code == nobodys.status_code, told
        assert theirs.text.replace(real, "ID") == nobodys.text.replace(missing, "ID"), told
    # Nothing of it was touched; and the owner's own calls get past the ids, so that the refusals above were of the ids.
    for method, path, parameter in with_ids(server):
        if method == "GET":
            assert owner.http.get(at(path, owner.ids[parameter])).status_code == 200, path
    assert owner.client.fine_tuning.jobs.retrieve(owner.ids["job_id"]).status == "validating_files"


def test_lists_hold_the_own_project_alone(owner: Tenant, stranger: Tenant) -> None:
    for path in (
        "/v1/files",
        "/v1/fine_tuning/jobs",
        "/v1/chat/completions",
        "/v1/batches",
        "/v1/luthier/datasets/tasks",
        "/v1/luthier/datasets/uses",
    ):
        assert len(owner.http.get(path).json()["data"]) == 1
        assert stranger.http.get(path).json()["data"] == []
    names = [model["id"] for model in stranger.http.get("/v1/models").json()["data"]]
    assert BASE in names
    assert not {TRAINED, TUNED} & set(names)
    assert TRAINED in [model.id for model in owner.client.models.list()]


@pytest.mark.parametrize(
    ("path", "kind"), [("/v1/files", "file_id"), ("/v1/fine_tuning/jobs", "job_id"), ("/v1/chat/completions", "completion_id")]
)
def test_a_cursor_of_another_project_is_none(owner: Tenant, stranger: Tenant, path: str, kind: str) -> None:
    real, missing = owner.ids[kind], missing_id(owner.ids[kind])
    theirs, nobodys = (stranger.http.get(path, params={"after": one}) for one in (real, missing))
    assert (theirs.status_code, theirs.text.replace(real, "ID")) == (404, nobodys.text.replace(missing, "ID"))


def requests_with(ids: dict[str, str], own_file: str) -> list[tuple[str, dict[str, Any], str]]:
    """Bodies that name things by id: path, body, and which id."""
    reference = [{"type": "item_reference", "id": ids["item_id"]}, {"role": "user", "content": "hi"}]
    return [
        ("/v1/fine_tuning/jobs", {"model": BASE, "training_file": ids["file_id"]}, "file_id"),
        ("/v1/fine_tuning/jobs", {"model": BASE, "training_file": own_file, "validation_file": ids["file_id"]}, "file_id"),
        ("/v1/fine_tuning/jobs", {"model": ids["name"], "training_file": own_file}, "name"),
        ("/v1/chat/completions", {"model": ids["name"], "messages": SAID}, "name"),
        ("/v1/completions", {"model": ids["name"], "prompt": "hi"}, "name"),
        ("/v1/responses", {"model": ids["name"], "input": "hi"}, "name"),
        ("/v1/responses", {"model": BASE, "input": "hi", "previous_response_id": ids["response_id"]}, "response_id"),
        ("/v1/responses", {"model": BASE, "input": reference}, "item_id"),
        ("/v1/responses/input_tokens", {"model": ids["name"], "input": "hi"}, "name"),
        ("/v1/luthier/render", {"model": ids["name"], "messages": SAID}, "name"),
        ("/v1/luthier/trace", {"model": ids["name"], "messages": SAID}, "name"),
        ("/v1/luthier/trace", {"model": BASE, "base": ids["name"], "messages": SAID}, "name"),
        ("/v1/luthier/datasets/check", {"file_id": ids["file_id"]}, "file_id"),
        ("/v1/luthier/datasets/doctor", {"file_id": own_file, "validation_file_id": ids["file_id"]}, "file_id"),
        ("/v1/luthier/datasets/preview", {"file_id": own_file, "model": ids["name"]}, "name"),
        ("/v1/luthier/files/from_completions", {"after": ids["completion_id"]}, "completion_id"),
    ]


def test_bodies_that_name_things_of_another_project(server: ApiServer, owner: Tenant, stranger: Tenant) -> None:
    own_file = stranger.client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune").id
    missing = {kind: missing_id(value) for kind, value in owner.ids.items()}
    for (path, real_body, kind), (_, missing_body, _) in zip(
        requests_with(owner.ids, own_file), requests_with(missing, own_file), strict=True
    ):
        theirs, nobodys = stranger.http.post(path, json=real_body), stranger.http.post(path, json=missing_body)
        told = (path, real_body, theirs.text)
        assert theirs.status_code in (400, 404), told
        assert theirs.status_code == nobodys.status_code, told
        assert theirs.text.replace(owner.ids[kind], "ID") == nobodys.text.replace(missing[kind], "ID"), told
    assert stranger.client.fine_tuning.jobs.list().data == []
    for path, body, _ in requests_with(owner.ids, owner.ids["file_id"]):
        assert owner.http.post(path, json=body).status_code == 200 or "from_completions" in path, path
    for job in owner.client.fine_tuning.jobs.list():
        if job.id != owner.ids["job_id"]:
            owner.client.fine_tuning.jobs.cancel(job.id)


def test_keys_of_one_project_share_what_it_has(server: ApiServer, owner: Tenant) -> None:
    second = server.client(api_key=server.new_key("read-only", project_id=owner.project))
    assert second.files.retrieve(owner.ids["file_id"]).id == owner.ids["file_id"]
    assert second.fine_tuning.jobs.retrieve(owner.ids["job_id"]).id == owner.ids["job_id"]
    assert second.models.retrieve(TRAINED).id == TRAINED


def test_the_first_key_sees_its_own_project(server: ApiServer, owner: Tenant) -> None:
    first = server.client()
    assert first.models.retrieve(TUNED).id == TUNED
    with pytest.raises(openai.NotFoundError):
        first.files.retrieve(owner.ids["file_id"])


def test_permission_for_a_checkpoint_lets_a_project_use_it(server: ApiServer, owner: Tenant, stranger: Tenant) -> None:
    permissions = server.client().fine_tuning.checkpoints.permissions
    (permission,) = permissions.create(TRAINED, project_ids=[stranger.project]).data
    client = stranger.client
    assert client.models.retrieve(TRAINED).id == TRAINED
    assert TRAINED in [model.id for model in client.models.list()]
    assert client.chat.completions.create(model=TRAINED, messages=SAID).model == TRAINED
    assert client.completions.create(model=TRAINED, prompt="hi").model == TRAINED
    assert client.responses.create(model=TRAINED, input="hi").model == TRAINED
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(f"{TRAINED}:ckpt-step-1")
    # To use it is not to have it.
    with pytest.raises(openai.NotFoundError):
        client.models.delete(TRAINED)
    own_file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune").id
    with pytest.raises(openai.BadRequestError) as error:
        client.fine_tuning.jobs.create(model=TRAINED, training_file=own_file)
    assert error.value.code == "model_not_available"
    permissions.delete(permission.id, fine_tuned_model_checkpoint=TRAINED)
    with pytest.raises(openai.NotFoundError) as gone:
        client.chat.completions.create(model=TRAINED, messages=SAID)
    assert gone.value.code == "model_not_found"
    assert owner.client.models.retrieve(TRAINED).id == TRAINED


def test_an_alias_gives_nobody_what_its_target_does_not(server: ApiServer, owner: Tenant, stranger: Tenant) -> None:
    with server.http() as admin:
        assert admin.post("/v1/luthier/aliases", json={"name": "shared@prod", "target": TRAINED}).status_code == 200
    try:
        assert owner.client.chat.completions.create(model="shared@prod", messages=SAID).model == "shared@prod"
        assert "shared@prod" in [model.id for model in owner.client.models.list()]
        assert "shared@prod" not in [model.id for model in stranger.client.models.list()]
        calls = (
            lambda: stranger.client.chat.completions.create(model="shared@prod", messages=SAID),
            lambda: stranger.client.models.retrieve("shared@prod"),
            lambda: stranger.client.models.delete("shared@prod"),
        )
        for call in calls:
            with pytest.raises(openai.NotFoundError) as error:
                call()
            assert TRAINED not in error.value.message
    finally:
        server.services.aliases.delete("shared@prod", by="test")


def test_a_retry_finds_its_own_keys_job_alone(server: ApiServer, owner: Tenant) -> None:
    body = {"model": BASE, "training_file": owner.ids["file_id"], "seed": 11}
    second_key = server.new_key(project_id=owner.project)
    made: set[str] = set()
    with server.http(second_key) as second:
        for headers in ({"x-stainless-retry-count": "1"}, {"idempotency-key": "mine"}):
            first = owner.http.post("/v1/fine_tuning/jobs", json=body, headers={**headers, "x-stainless-retry-count": "0"}).json()["id"]
            others = second.post("/v1/fine_tuning/jobs", json=body, headers=headers).json()["id"]
            again = owner.http.post("/v1/fine_tuning/jobs", json=body, headers=headers).json()["id"]
            assert others != first
            assert again == first
            made |= {first, others}
    for job_id in made:
        owner.client.fine_tuning.jobs.cancel(job_id)
