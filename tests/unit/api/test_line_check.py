"""Large files are checked beside, with the verdict of the check on the spot."""

import os
import signal
from pathlib import Path

import orjson
import pytest

from luthier.api import line_check as module
from luthier.api.line_check import BESIDE_BYTES, LineCheck
from luthier.core.jsonl import JsonlCheck

LINE = b'{"text": "' + b"x" * 989 + b'"}\n'
LARGE = LINE * (BESIDE_BYTES // len(LINE) + 2000)


class Written:
    """A file that is written and checked piece by piece; ``beside`` is the process that checks it, if any."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self.check = LineCheck(path, max_line_bytes=10_000)

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), 1 << 18):
            piece = data[start : start + (1 << 18)]
            self._file.write(piece)
            self.check.feed(memoryview(piece))

    @property
    def beside(self) -> int | None:
        process = self.check._beside
        return None if process is None else process.pid


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path / "file")


def verdict(data: bytes) -> str | None:
    check = JsonlCheck(orjson.loads, max_line_bytes=10_000)
    check.feed(data)
    return check.finish()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_small_file_needs_no_process(written: Written) -> None:
    with written.check as check:
        written.write(LINE * 100 + b"[]\n")
        assert written.beside is None
        assert check.finish() == verdict(LINE * 100 + b"[]\n")


@pytest.mark.parametrize(
    "end",
    [
        b"",
        b"\n\n",
        LINE[:-1],
        b"[1]\n" + LINE,
        b"\n" + LINE,
        b'{"a": NaN}\n' * 3,
        b'{"a": "\xff"}',
        b"{}" + b" " * 20_000,
        b"[1]\n" + LARGE,
    ],
)
def test_a_large_file_is_checked_beside_with_the_same_verdict(written: Written, end: bytes) -> None:
    with written.check as check:
        written.write(LARGE + end)
        assert written.beside is not None
        assert check.finish() == verdict(LARGE + end)


def test_a_fault_at_the_start_needs_no_process(written: Written) -> None:
    with written.check as check:
        written.write(b"x" + LARGE)
        assert written.beside is None
        assert "Line 1 is not a dictionary" in (check.fault or "")


def test_a_process_that_is_killed_does_not_change_the_verdict(written: Written) -> None:
    with written.check as check:
        written.write(LARGE)
        assert written.beside is not None
        os.kill(written.beside, signal.SIGKILL)
        written.write(b"[1]\n")
        assert check.finish() == verdict(LARGE + b"[1]\n")


def test_leaving_early_ends_the_process(written: Written) -> None:
    with written.check:
        written.write(LARGE)
        pid = written.beside
        assert pid is not None
        assert is_running(pid)
    assert not is_running(pid)


def test_few_processes_run_at_once(tmp_path: Path) -> None:
    files = [Written(tmp_path / str(number)) for number in range(3)]
    for file in files:
        file.write(LARGE + b"[1]\n")
    assert [file.beside is None for file in files] == [False, False, True]
    for file in files:
        with file.check as check:
            assert check.finish() == verdict(LARGE + b"[1]\n")
    # Their places are free again.
    test_a_large_file_is_checked_beside_with_the_same_verdict(Written(tmp_path / "last"), b"")


def test_where_no_process_can_be_started_all_is_checked_on_the_spot(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "executable", "/nowhere/python")
    with written.check as check:
        written.write(LARGE + b"[1]\n")
        assert written.beside is None
        assert check.finish() == verdict(LARGE + b"[1]\n")
