"""A real API in this process for the commands' tests, and one to speak to it as a user does."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from tests.support.api_server import KEY, ApiServer
from tests.support.command_line import luthier
from tests.support.fake_engine import BASE, saying

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path_factory.mktemp("api") / "data")
    yield server
    server.stop()


@pytest.fixture
def server(shared_server: ApiServer) -> ApiServer:
    shared_server.engine.generate = saying("Hello", " world", "!")
    shared_server.engine.requests.clear()
    shared_server.engine.loaded = (BASE,)
    return shared_server


@pytest.fixture
def run(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command against the server."""
    monkeypatch.setattr("openai.DEFAULT_MAX_RETRIES", 0)

    def command(*arguments: str, **options: str) -> Result:
        return luthier(*arguments, **{"url": server.url, "key": KEY, **options})

    return command


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A training file of ten chat rows."""
    row = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
    path = tmp_path / "train.jsonl"
    path.write_text((json.dumps(row) + "\n") * 10, encoding="utf-8")
    return path
