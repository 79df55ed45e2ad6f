"""Dataset tasks that are sent twice, and more of them than may wait."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.contract.test_datasets import get, jsonl, post, uploaded, words
from tests.support.api_server import ApiServer
from tests.support.data_worker import DataWorker


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server with a worker for its dataset tasks."""
    server = ApiServer(tmp_path_factory.mktemp("api") / "data")
    with DataWorker(server.services.settings):
        yield server
    server.stop()


@pytest.fixture
def client(server: ApiServer) -> openai.OpenAI:
    return server.client()


def sent(server: ApiServer, *, file_id: str, **headers: str) -> Any:
    """The answer to a check, as it came."""
    body = {"file_id": file_id, "wait_seconds": 30}
    with server.http(**headers) as http:
        return http.post("/v1/luthier/datasets/check", json=body)


def test_a_retry_after_a_lost_answer_makes_no_second_task(client: openai.OpenAI, server: ApiServer) -> None:
    file = uploaded(client, jsonl(words(10)))
    first = sent(server, file_id=file, **{"x-stainless-retry-count": "0"}).json()
    again = sent(server, file_id=file, **{"x-stainless-retry-count": "1"}).json()
    assert (again, again["status"]) == (first, "completed")
    deliberate = sent(server, file_id=file, **{"x-stainless-retry-count": "0"}).json()
    assert deliberate["id"] != first["id"]
    assert [task["id"] for task in get(client, "tasks", limit=2)["data"]] == [deliberate["id"], first["id"]]


def test_an_idempotency_key_means_one_task(client: openai.OpenAI, server: ApiServer) -> None:
    file, other = (uploaded(client, jsonl(words(count))) for count in (10, 11))
    key = {"idempotency-key": f"key-{file}"}
    first, again = (sent(server, file_id=file, **key).json()["id"] for _ in range(2))
    assert first == again
    reused = sent(server, file_id=other, **key)
    assert (reused.status_code, reused.json()["error"]["code"], reused.headers["x-should-retry"]) == (
        422,
        "idempotency_key_reused",
        "false",
    )


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server on which two tasks of a project may wait, and nobody does them."""
    server = ApiServer(tmp_path_factory.mktemp("narrow") / "data", waiting_dataset_tasks=2)
    yield server
    server.stop()


def test_a_full_queue_is_429_for_its_project_alone(narrow: ApiServer) -> None:
    client = narrow.client()
    file = uploaded(client, jsonl(words(1)))
    first = post(client, "check", file_id=file)
    marked = {"idempotency-key": "second"}
    second = sent(narrow, file_id=file, **marked).json()
    full = sent(narrow, file_id=file)
    assert (full.status_code, full.headers["retry-after"]) == (429, "2")
    assert full.json()["error"] == {
        "message": "This dataset task has been rate-limited. Your project has reached the maximum of 2 waiting dataset tasks "
        "(0 running, 2 pending). Send it again when one of them is done, or cancel one.",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert sent(narrow, file_id=file, **marked).json()["id"] == second["id"], "a repeated request asks for no more"
    assert len(get(client, "tasks")["data"]) == 2

    other = narrow.client(api_key=narrow.new_key(project_id=narrow.new_project("other")))
    assert post(other, "check", file_id=uploaded(other, jsonl(words(1))))["status"] == "queued"

    post(client, f"tasks/{first['id']}/cancel")
    assert post(client, "check", file_id=file)["status"] == "queued"
    with pytest.raises(openai.RateLimitError):
        post(client, "check", file_id=file)
