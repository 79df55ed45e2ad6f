"""Fixtures of the office's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from luthier.storage.database import Database
from tests.support.office import Clock, new_database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = new_database(tmp_path)
    yield database
    database.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()
