"""The official client's webhook methods against a real server, and one event from a job's end to a receiver."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from luthier.core.webhooks import EVENT_TYPES
from tests.support.api_server import KEY, ApiServer
from tests.support.office import new_job
from tests.support.webhook_receiver import Receiver

URL = "https://hooks.example.com/in"
SUCCEEDED: Any = ["fine_tuning.job.succeeded"]


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Like the other contract tests' server, but one that may send to this machine."""
    folder = tmp_path_factory.mktemp("api") / "data"
    server = ApiServer(folder, spec_strict=True, webhooks_allow_http=True, webhooks_allow_private=True)
    yield server
    server.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver([200])
    yield receiver
    receiver.stop()


@pytest.fixture(autouse=True)
def no_endpoints(server: ApiServer) -> Iterator[None]:
    yield
    for endpoint in server.services.webhooks.list(limit=100).items:
        server.services.webhooks.delete(endpoint.id)


def refusal(call: Any, *args: Any, **named: Any) -> openai.BadRequestError:
    with pytest.raises(openai.BadRequestError) as error:
        call(*args, **named)
    return error.value


def test_event_types(client: openai.OpenAI) -> None:
    assert client.webhooks.event_types.list().data == list(EVENT_TYPES)


def test_the_secret_is_shown_when_it_is_made_and_never_again(client: openai.OpenAI) -> None:
    made = client.webhooks.create(name="mine", url=URL, event_types=SUCCEEDED)
    assert (made.object, made.name, made.url, made.event_types) == ("webhook_endpoint", "mine", URL, SUCCEEDED)
    assert made.id.startswith("wh_")
    assert made.signing_secret.startswith("whsec_")
    assert made.updated_at == made.created_at
    shown = client.webhooks.retrieve(made.id)
    assert shown.signing_secret_hint == f"whsec_...{made.signing_secret[-4:]}"
    assert made.signing_secret not in shown.to_json() + client.webhooks.list().to_json()
    assert "signing_secret" not in shown.to_dict()


def test_pages_are_newest_first(client: openai.OpenAI) -> None:
    made = [client.webhooks.create(name=f"n{n}", url=URL, event_types=SUCCEEDED).id for n in range(5)]
    assert [endpoint.id for endpoint in client.webhooks.list(limit=2)] == made[::-1]
    page = client.webhooks.list(limit=2, after=made[3])
    assert ([endpoint.id for endpoint in page.data], page.has_more) == ([made[2], made[1]], True)
    assert refusal(client.webhooks.list, limit=0).param == "limit"
    with pytest.raises(openai.NotFoundError):
        client.webhooks.list(after="wh_unknown")


def test_an_update_changes_what_is_named(client: openai.OpenAI) -> None:
    made = client.webhooks.create(name="mine", url=URL, event_types=SUCCEEDED)
    renamed = client.webhooks.update(made.id, name="yours")
    assert (renamed.name, renamed.url, renamed.event_types) == ("yours", URL, SUCCEEDED)
    moved = client.webhooks.update(made.id, url=URL + "2", event_types=["fine_tuning.job.failed", "fine_tuning.job.failed"])
    assert (moved.name, moved.url, moved.event_types) == ("yours", URL + "2", ["fine_tuning.job.failed"])
    assert client.webhooks.retrieve(made.id) == moved
    assert client.webhooks.update(made.id) == moved


def test_deleted_and_unknown_endpoints(client: openai.OpenAI) -> None:
    made = client.webhooks.create(name="mine", url=URL, event_types=SUCCEEDED)
    gone = client.webhooks.delete(made.id)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "webhook_endpoint.deleted")
    calls: list[Any] = [
        client.webhooks.retrieve,
        client.webhooks.delete,
        client.webhooks.rotate_secret,
        lambda id: client.webhooks.update(id, name="x"),
        lambda id: client.webhooks.test(id, event_type="fine_tuning.job.failed"),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError) as error:
            call(made.id)
        assert error.value.param == "webhook_endpoint_id"
        assert made.id in error.value.message


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"url": "ftp://hooks.example.com"}, "invalid_value", "url"),
        ({"url": "https://2130706433/"}, "invalid_value", "url"),
        ({"url": ""}, "string_below_min_length", "url"),
        ({"url": URL + "x" * 2048}, "string_above_max_length", "url"),
        ({"url": 5}, "invalid_type", "url"),
        ({"name": ""}, "string_below_min_length", "name"),
        ({"name": "x" * 257}, "string_above_max_length", "name"),
        ({"event_types": []}, "array_below_min_length", "event_types"),
        ({"event_types": ["fine_tuning.job.succeeded", "response.completed"]}, "invalid_value", "event_types[1]"),
        ({"event_types": "fine_tuning.job.succeeded"}, "invalid_type", "event_types"),
        ({"colour": "red"}, "unknown_parameter", "colour"),
    ],
)
def test_what_is_refused_at_creation_and_update(
    server: ApiServer, client: openai.OpenAI, changes: dict[str, Any], code: str, param: str
) -> None:
    made = client.webhooks.create(name="mine", url=URL, event_types=SUCCEEDED)
    good = {"name": "mine", "url": URL, "event_types": SUCCEEDED}
    with server.http() as http:
        answers = [
            http.post("/v1/webhook_endpoints", json={**good, **changes}),
            http.post(f"/v1/webhook_endpoints/{made.id}", json=changes),
        ]
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["param"]) == (400, code, param)
    assert [endpoint.id for endpoint in client.webhooks.list()] == [made.id]
    assert client.webhooks.retrieve(made.id).url == URL


@pytest.mark.parametrize("missing", ["name", "url", "event_types"])
def test_creation_needs_every_field(server: ApiServer, missing: str) -> None:
    body = {"name": "mine", "url": URL, "event_types": SUCCEEDED}
    del body[missing]
    with server.http() as http:
        error = http.post("/v1/webhook_endpoints", json=body).json()["error"]
    assert (error["code"], error["param"]) == ("missing_required_parameter", missing)


def test_a_test_event_is_sent_once_and_its_status_told(server: ApiServer, client: openai.OpenAI, receiver: Receiver) -> None:
    made = client.webhooks.create(name="mine", url=receiver.url, event_types=SUCCEEDED)
    result = client.webhooks.test(made.id, event_type="fine_tuning.job.failed")
    assert (result.object, result.webhook_endpoint_id, result.event_type) == ("webhook_endpoint.test", made.id, "fine_tuning.job.failed")
    assert (result.status_code, result.success) == (200, True)
    event = receiver.next().unwrap(made.signing_secret)
    assert (event.type, event.data.id[:6]) == ("fine_tuning.job.failed", "ftjob-")
    assert receiver.received.empty()
    assert server.services.webhooks.owed(made.id) == []
    assert client.webhooks.retrieve(made.id).updated_at == made.updated_at
    assert refusal(client.webhooks.test, made.id, event_type="response.completed").param == "event_type"  # type: ignore[arg-type]


def test_a_test_tells_other_answers_too_and_says_when_there_is_none(client: openai.OpenAI) -> None:
    receiver = Receiver([503])
    made = client.webhooks.create(name="mine", url=receiver.url, event_types=SUCCEEDED)
    try:
        assert client.webhooks.test(made.id, event_type="fine_tuning.job.failed").status_code == 503
    finally:
        receiver.stop()
    error = refusal(client.webhooks.test, made.id, event_type="fine_tuning.job.failed")
    assert error.code == "webhook_delivery_failed"


def test_rotation_with_and_without_the_old_secret(client: openai.OpenAI, receiver: Receiver) -> None:
    made = client.webhooks.create(name="mine", url=receiver.url, event_types=SUCCEEDED)
    second = client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
    assert second.signing_secret != made.signing_secret
    client.webhooks.test(made.id, event_type="fine_tuning.job.failed")
    both = receiver.next()
    both.unwrap(made.signing_secret)
    both.unwrap(second.signing_secret)
    third = client.webhooks.rotate_secret(made.id)
    client.webhooks.test(made.id, event_type="fine_tuning.job.failed")
    one = receiver.next()
    one.unwrap(third.signing_secret)
    for old in (made.signing_secret, second.signing_secret):
        with pytest.raises(openai.InvalidWebhookSignatureError):
            one.unwrap(old)


def test_rotation_needs_no_body(server: ApiServer, client: openai.OpenAI) -> None:
    made = client.webhooks.create(name="mine", url=URL, event_types=SUCCEEDED)
    with server.http() as http:
        answer = http.post(f"/v1/webhook_endpoints/{made.id}/rotate_secret")
        wrong = http.post(f"/v1/webhook_endpoints/{made.id}/rotate_secret", json={"keep": True})
    assert answer.status_code == 200
    assert answer.json()["signing_secret"] != made.signing_secret
    assert wrong.json()["error"]["code"] == "unknown_parameter"


def test_a_cancelled_job_is_told_of(server: ApiServer, client: openai.OpenAI, receiver: Receiver) -> None:
    made = client.webhooks.create(name="mine", url=receiver.url, event_types=["fine_tuning.job.cancelled"])
    deaf = client.webhooks.create(name="other", url=receiver.url, event_types=SUCCEEDED)
    job = server.services.queue.submit(new_job())
    client.fine_tuning.jobs.cancel(job.id)
    event = receiver.next().unwrap(made.signing_secret)
    assert (event.type, event.data.id) == ("fine_tuning.job.cancelled", job.id)
    assert server.services.webhooks.owed(deaf.id) == []


def test_a_server_of_default_settings_sends_to_the_public_internet_only(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = ApiServer(tmp_path_factory.mktemp("strict") / "data")
    try:
        client = server.client()
        for url in ("http://hooks.example.com/", "https://127.0.0.1/", "https://[::ffff:10.0.0.1]/", "https://0177.0.0.1/"):
            error = refusal(client.webhooks.create, name="mine", url=url, event_types=SUCCEEDED)
            assert (error.code, error.param) == ("invalid_value", "url")
        made = client.webhooks.create(name="mine", url=URL, event_types=SUCCEEDED)
        assert refusal(client.webhooks.update, made.id, url="https://localhost/").param == "url"
    finally:
        server.stop()


def test_the_receiver_of_the_guide_receives(server: ApiServer) -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs/guides/webhooks.md").read_text(encoding="utf-8")
    code = guide.split("```python\n")[1].split("```")[0]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert "9000" in code
    made = server.client().webhooks.create(name="mine", url=f"http://127.0.0.1:{port}/", event_types=["fine_tuning.job.cancelled"])
    own = {"OPENAI_BASE_URL": server.url + "/v1", "OPENAI_API_KEY": KEY, "OPENAI_WEBHOOK_SECRET": made.signing_secret}
    command = [sys.executable, "-c", code.replace("9000", str(port))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **own}) as process:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.05)
            server.client().fine_tuning.jobs.cancel(server.services.queue.submit(new_job()).id)
            assert process.stdout is not None
            assert process.stdout.readline() == "fine_tuning.job.cancelled None\n"
        finally:
            process.kill()
