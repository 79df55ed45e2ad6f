"""The process of a dataset task: an import that asks for too much memory gets an error, not the machine's last bytes."""

import subprocess
import sys

import pytest

_GREEDY = """
from luthier.worker.memory_bound import bound_memory
bound_memory(64 << 20)
small = bytearray(16 << 20)
try:
    bytearray(256 << 20)
except MemoryError:
    print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep this limit")
def test_more_memory_than_its_share_is_refused() -> None:
    done = subprocess.run([sys.executable, "-c", _GREEDY], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "refused\n"
