"""Which projects may use a checkpoint, with the official client."""

import re

import openai
import pytest

from luthier.core.jobs import JobStatus
from tests.support.api_server import TUNED, ApiServer
from tests.support.fake_engine import BASE
from tests.support.office import new_checkpoint, new_job, new_model


@pytest.fixture
def permissions(client: openai.OpenAI):
    """The calls, and no permission left behind."""
    calls = client.fine_tuning.checkpoints.permissions
    yield calls
    for permission in list(calls.list(TUNED, limit=100)):
        calls.delete(permission.id, fine_tuned_model_checkpoint=TUNED)


def test_granted_listed_and_taken_away(permissions) -> None:
    created = permissions.create(TUNED, project_ids=["proj_a", "proj_b"])
    assert [p.project_id for p in created.data] == ["proj_a", "proj_b"]
    assert all(re.fullmatch(r"cp_[0-9A-Za-z]{24}", p.id) and p.object == "checkpoint.permission" for p in created.data)
    listed = permissions.list(TUNED)
    assert [p.project_id for p in listed.data] == ["proj_b", "proj_a"]
    assert (listed.first_id, listed.last_id, listed.has_more) == (created.data[1].id, created.data[0].id, False)
    gone = permissions.delete(created.data[0].id, fine_tuned_model_checkpoint=TUNED)
    assert (gone.id, gone.object, gone.deleted) == (created.data[0].id, "checkpoint.permission", True)
    assert [p.project_id for p in permissions.list(TUNED).data] == ["proj_b"]


def test_pages_in_both_orders(permissions) -> None:
    names = [f"proj_{n}" for n in range(5)]
    permissions.create(TUNED, project_ids=names)
    assert [p.project_id for p in permissions.list(TUNED, limit=2, order="ascending")] == names
    assert [p.project_id for p in permissions.list(TUNED, limit=2, order="descending")] == names[::-1]
    assert [p.project_id for p in permissions.list(TUNED, project_id="proj_3")] == ["proj_3"]
    assert permissions.list(TUNED, limit=5).has_more is False
    with pytest.deprecated_call():
        assert len(permissions.retrieve(TUNED, limit=3).data) == 3


def test_a_repeated_grant_changes_nothing(permissions) -> None:
    first = permissions.create(TUNED, project_ids=["proj_a", "proj_a"]).data
    assert len(first) == 1
    assert permissions.create(TUNED, project_ids=["proj_a"]).data == first


def test_a_checkpoint_is_found_by_its_name_and_by_its_id(server: ApiServer) -> None:
    services = server.services
    job = services.queue.submit(new_job(status=JobStatus.RUNNING))
    leased = services.queue.lease("owner-test", [JobStatus.RUNNING])
    assert leased is not None
    assert leased.id == job.id
    name = f"{TUNED}:ckpt-step-88"
    point = new_checkpoint(job.id, 88, model_name=name)
    services.jobs.update(job.id, fence=leased.fence, checkpoints=[point], models=[new_model(name)])
    services.control.cancel(job.id)
    calls = server.client().fine_tuning.checkpoints.permissions
    granted = calls.create(name, project_ids=["proj_a"]).data
    assert [p.id for p in calls.list(point.id).data] == [granted[0].id]
    assert calls.list(TUNED).data == []
    escaped = name.replace(":", "%3A")
    with server.http() as http:
        assert http.get(f"/v1/fine_tuning/checkpoints/{escaped}/permissions").json()["data"][0]["id"] == granted[0].id


@pytest.mark.parametrize("name", ["ft:gpt-4o-mini-2024-07-18:luthier::nothere1", "ftckpt_nothing", BASE])
def test_an_unknown_checkpoint_is_not_found(permissions, name: str) -> None:
    for call in (
        lambda: permissions.list(name),
        lambda: permissions.create(name, project_ids=["proj_a"]),
        lambda: permissions.delete("cp_x", fine_tuned_model_checkpoint=name),
    ):
        with pytest.raises(openai.NotFoundError) as error:
            call()
        assert error.value.param == "fine_tuned_model_checkpoint"


def test_unknown_permissions_and_cursors_are_not_found(permissions) -> None:
    with pytest.raises(openai.NotFoundError):
        permissions.delete("cp_nothing", fine_tuned_model_checkpoint=TUNED)
    with pytest.raises(openai.NotFoundError):
        permissions.list(TUNED, after="cp_nothing")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "project_ids"),
        ({"project_ids": []}, "array_below_min_length", "project_ids"),
        ({"project_ids": [3]}, "invalid_type", "project_ids[0]"),
        ({"project_ids": ["a"], "x": 1}, "unknown_parameter", "x"),
    ],
)
def test_bad_bodies(server: ApiServer, body: dict[str, object], code: str, param: str) -> None:
    with server.http() as http:
        answer = http.post(f"/v1/fine_tuning/checkpoints/{TUNED}/permissions", json=body)
        assert (answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["param"]) == (400, code, param)
        wrong = http.get(f"/v1/fine_tuning/checkpoints/{TUNED}/permissions?order=asc")
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "order")
