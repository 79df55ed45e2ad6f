"""The lines of a fine-tuning file, checked while the file is written.

What it does: checks the first bytes on the spot, and leaves the rest of a large file to a process of its own, which reads the
growing file: parsing JSON holds the interpreter's lock, and this process has bytes to receive and requests to answer. What it
does not: the check itself (``core/jsonl.py``). Called by ``upload.py`` and ``assembly.py``; run as ``python -m`` by itself.
"""

import contextlib
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import orjson
import simdjson

from luthier.core.archives import HEAD_BYTES, archive_of
from luthier.core.errors import InvalidRequest
from luthier.core.jsonl import JsonlCheck

BESIDE_BYTES = 4 * 1024 * 1024
"""Larger files are checked in a process of their own: starting it takes as long as checking about these bytes."""
_LOG = logging.getLogger("luthier.api")
_PROCESSES = 2
_PIECE_BYTES = 1024 * 1024
_SURE_BYTES = 1024 * 1024
"""Longer lines are left to orjson: simdjson takes 12 bytes of memory for each byte of a line, and keeps them."""
_free = threading.BoundedSemaphore(_PROCESSES)


class LineCheck:
    """One file's check. Used from one thread at a time, in a ``with`` block; like ``JsonlCheck`` otherwise.

    Args:
        path: where the file is written.
        max_line_bytes: longest line.
    """

    def __init__(self, path: Path, *, max_line_bytes: int) -> None:
        self._path = path
        self._max_line_bytes = max_line_bytes
        self._num_bytes = 0
        self._head = b""
        self._here = _check(max_line_bytes)
        self._beside: subprocess.Popen[bytes] | None = None
        self._decided = False

    def __enter__(self) -> "LineCheck":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._beside is not None:
            self._beside.kill()
            self._leave()

    @property
    def fault(self) -> str | None:
        """The first fault as a sentence for the caller, as far as it is known before ``finish``."""
        return self._here.fault

    def feed(self, piece: bytes | memoryview) -> None:
        """Check the next bytes, which stand in the file already."""
        self._num_bytes += len(piece)
        if len(self._head) < HEAD_BYTES:
            self._head += bytes(piece[:HEAD_BYTES])
        if self._beside is not None:
            self._tell(self._beside)
            return
        self._here.feed(bytes(piece))
        if not self._decided and self._num_bytes >= BESIDE_BYTES and self._here.fault is None:
            self._decided = True
            self._beside = self._start()

    def finish(self) -> str | None:
        """Wait for the check of all bytes; returns the first fault."""
        if self._beside is None:
            return self._here.finish()
        answer, _ = self._beside.communicate()
        if self._leave() == 0:
            return json.loads(answer)
        # The process was killed, for memory perhaps: the bytes are still there.
        with self._path.open("rb") as file:
            return _fault_of(file, [self._num_bytes], self._max_line_bytes)

    def refusal(self, fault: str) -> InvalidRequest:
        """The error to a fault: a file that is compressed is told so (415), any other one in OpenAI's words."""
        archive = archive_of(self._head)
        if archive is None:
            return InvalidRequest(fault)
        return InvalidRequest(f"The file {archive.refusal}", code="compressed_file", param="file")

    def _start(self) -> subprocess.Popen[bytes] | None:
        """None where it cannot be started: then all is checked here."""
        if not _free.acquire(blocking=False):
            return None
        command = [sys.executable, "-m", "luthier.api.line_check", str(self._path), str(self._max_line_bytes)]
        try:
            # A session of its own: a Ctrl-C in the terminal is for the server, which finishes requests first.
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True)
        except OSError as error:
            _free.release()
            _LOG.warning("no process to check an upload's lines: %s", error)
            return None

    def _tell(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        # Once it has found a fault it reads no further.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(b"%d\n" % self._num_bytes)

    def _leave(self) -> int:
        """Wait for the process and forget it; returns its exit code."""
        assert self._beside is not None
        process, self._beside = self._beside, None
        _free.release()
        with process:
            return process.wait()


def _check(max_line_bytes: int) -> JsonlCheck:
    """A line is what orjson reads as a dictionary. simdjson finds that out at four times the rate, making no objects, and refuses more."""
    parser = simdjson.Parser()

    def surely(line: bytes) -> bool:
        try:
            return len(line) <= _SURE_BYTES and isinstance(parser.parse(line), simdjson.Object)
        except (ValueError, RuntimeError):  # the latter for too deep a nesting
            return False

    return JsonlCheck(orjson.loads, max_line_bytes=max_line_bytes, surely=surely)


def _fault_of(file: BinaryIO, marks: Iterable[int], max_line_bytes: int) -> str | None:
    """The first fault of a growing file; each mark is how many bytes are there by now."""
    check = _check(max_line_bytes)
    for mark in marks:
        while check.fault is None and (piece := file.read(min(_PIECE_BYTES, mark - file.tell()))):
            check.feed(piece)
        if check.fault is not None:
            break
    return check.finish()


def main() -> None:
    """The process beside: the file's path and the longest line as arguments, marks as lines on standard input, the fault as JSON."""
    with Path(sys.argv[1]).open("rb", buffering=0) as file:
        fault = _fault_of(file, map(int, sys.stdin.buffer), int(sys.argv[2]))
    sys.stdout.write(json.dumps(fault))


if __name__ == "__main__":
    main()
