"""Real servers for end-to-end tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One running server for a module's tests."""
    running = ServerProcess(tmp_path_factory.mktemp("data")).start()
    yield running
    running.stop()


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of its own for a test that kills it."""
    running = ServerProcess(tmp_path / "data").start()
    yield running
    running.stop()
