"""What tests of the import share."""

from pathlib import Path

import pytest

from tests.support.importer import Importer


@pytest.fixture
def imports(tmp_path: Path) -> Importer:
    return Importer(tmp_path)
