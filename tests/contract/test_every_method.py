"""Every method of the newest official client that this surface covers, sync and async, with strict validation of what comes back.

The server runs as it is delivered and with ``LUTHIER_SPEC_STRICT=1``. As it is delivered, answers with jobs are excepted:
``error`` of a healthy job is an object of nulls, which OpenAI sends and its schema does not allow.
"""

import asyncio
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import openai
import pytest

from tests.support.api_server import KEY, ApiServer
from tests.support.conformance import leave
from tests.support.finished_job import finish_job
from tests.support.round_trip import (
    BASE_NAME,
    BEYOND_THE_SCHEMA,
    BEYOND_THE_SCHEMA_AS_DELIVERED,
    EXCUSED,
    RESOURCES,
    ROWS,
    Caller,
    methods,
    methods_of,
    round_trip,
)
from tests.support.webhook_receiver import Receiver


@pytest.fixture(scope="module", params=[False, True], ids=["as delivered", "spec strict"])
def shared_server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    """A server that may send webhooks to this machine."""
    folder = tmp_path_factory.mktemp("api") / "data"
    server = ApiServer(folder, spec_strict=request.param, webhooks_allow_http=True, webhooks_allow_private=True)
    yield server
    server.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver([200])
    yield receiver
    receiver.stop()


def strict(server: ApiServer) -> bool:
    return server.services.settings.spec_strict


async def called_by(kind: type, server: ApiServer, receiver: Receiver) -> set[str]:
    options: Any = {"base_url": server.url + "/v1", "api_key": KEY, "admin_api_key": KEY, "max_retries": 0, "timeout": 30}
    unvalidated = BEYOND_THE_SCHEMA if strict(server) else (*BEYOND_THE_SCHEMA, *BEYOND_THE_SCHEMA_AS_DELIVERED)
    call = Caller(kind(**options, _strict_response_validation=True), kind(**options), unvalidated)
    await round_trip(call, lambda job_id: finish_job(server.services, job_id), receiver)
    return call.called


@pytest.mark.parametrize("kind", [openai.OpenAI, openai.AsyncOpenAI], ids=["sync", "async"])
def test_every_covered_method_is_called(server: ApiServer, receiver: Receiver, kind: type) -> None:
    called = asyncio.run(called_by(kind, server, receiver))
    covered = methods_of(kind(api_key="sk-none"))
    mood = "sync" if kind is openai.OpenAI else "async"
    told = {"client": f"openai for Python ({mood})", "version": openai.__version__, "validation": "strict", "calls": sorted(called)}
    leave(f"client-openai-{mood}", told)
    assert covered - called == set(EXCUSED), "a method of the client has no contract call: add one, or a reason to EXCUSED"
    assert called - covered == set()


def test_no_part_below_a_covered_one_is_forgotten() -> None:
    client = openai.OpenAI(api_key="sk-none")
    parts: dict[str, Any] = {}
    todo = [(top, getattr(client, top)) for top in {resource.partition(".")[0] for resource in RESOURCES}]
    while todo:
        name, part = todo.pop()
        parts[name] = part
        below = [key for key in dir(type(part)) if isinstance(getattr(type(part), key), cached_property) and not key.startswith("with_")]
        todo += [(f"{name}.{key}", getattr(part, key)) for key in below]
    with_methods = {name for name, part in parts.items() if methods(part)}
    assert with_methods - set(RESOURCES) == {"fine_tuning.alpha.graders"}, "graders come with reinforcement"
    assert set(RESOURCES) - with_methods == set()


@pytest.mark.parametrize("method", ["create", "retrieve", "pause", "resume", "cancel", "list"])
def test_a_jobs_error_and_pause_are_all_that_differs_from_the_schema(server: ApiServer, method: str) -> None:
    """Decisions D1 and D3 of the reference, and nothing beside them."""
    client = server.client()
    file = client.files.create(file=("train.jsonl", ROWS), purpose="fine-tune")
    job: Any = client.fine_tuning.jobs.create(model=BASE_NAME, training_file=file.id)
    if method == "resume":
        client.fine_tuning.jobs.pause(job.id)
    if method == "list":
        job = client.fine_tuning.jobs.list(limit=1).data[0]
    elif method != "create":
        job = getattr(client.fine_tuning.jobs, method)(job.id)
    raw = job.to_dict()
    kind = type(job)
    if not strict(server):
        assert raw["error"] == {"code": None, "message": None, "param": None}
        raw["error"] = None
        if method == "pause":
            assert raw["status"] == "paused"
            raw["status"] = "queued"
    assert raw["error"] is None
    kind.model_validate(raw)
