"""A running API for each module, and the official client in both its moods."""

import json
from collections.abc import Iterator

import openai
import pytest

from tests.support.api_server import ApiServer
from tests.support.conformance import Recorder, leave
from tests.support.fake_engine import BASE, saying
from tests.support.openapi_document import OpenApi

DRAWN_BY_CHANCE = ("test_generated_requests.py",)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What compares the run with the committed record comes last."""
    items.sort(key=lambda item: item.path.name == "test_conformance.py")


@pytest.fixture(scope="session")
def recorder() -> Iterator[Recorder]:
    """Notes what all contract tests send and get."""
    recorder = Recorder(OpenApi.load())
    yield recorder
    leave("observed", recorder.observed.as_json())


@pytest.fixture(scope="module", autouse=True)
def _overheard(recorder: Recorder, request: pytest.FixtureRequest) -> Iterator[None]:
    """Requests that are drawn by chance are not noted: the next run could not bear them out."""
    ApiServer.recorder = None if request.path.name in DRAWN_BY_CHANCE else recorder
    yield
    ApiServer.recorder = None


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path_factory.mktemp("api") / "data", spec_strict=True)
    yield server
    server.stop()


@pytest.fixture
def server(shared_server: ApiServer) -> ApiServer:
    shared_server.engine.generate = saying("Hello", " world", "!")
    shared_server.engine.requests.clear()
    shared_server.engine.loaded = (BASE,)
    return shared_server


@pytest.fixture
def ending_streams(server: ApiServer) -> Iterator[None]:
    """Streams say hello and end, as those of a server that stops: for tests that ask every route."""
    state, going_on = server.app.state, server.app.state.stopping
    state.stopping = lambda: True
    yield
    state.stopping = going_on


@pytest.fixture(params=[False, True], ids=["lenient", "strict"])
def client(server: ApiServer, request: pytest.FixtureRequest) -> openai.OpenAI:
    """The official client; the strict one checks every answer against OpenAI's schema."""
    return server.client(_strict_response_validation=request.param)


@pytest.fixture
def rows() -> bytes:
    row = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
    return b"".join(json.dumps(row).encode() + b"\n" for _ in range(10))


@pytest.fixture
def training_file(server: ApiServer, rows: bytes) -> str:
    return server.client().files.create(file=("train.jsonl", rows), purpose="fine-tune").id
