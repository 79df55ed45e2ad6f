"""Appends a run's events to its log, one JSON object per line.

What it does: whole lines only, flushed one by one, from any thread; finds the next event id in an existing log and cuts off
a line that a crash left half written. What it does not: fsync (the log can be rebuilt from a resumed run) or stamp events
(``tracer.py``). Built in ``worker/child.py`` as a sink of the tracer.
"""

import json
import math
import os
import threading
from pathlib import Path
from typing import Any

from luthier.trace.events import TraceEvent, event_to_dict

_TAIL_BYTES = 64 * 1024


class TraceWriter:
    """A tracer's sink. One process writes a log at a time: the one that holds the job's lease."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b", buffering=0)
        self._lock = threading.Lock()
        self._next_id = _recover(self._file.fileno()) + 1

    @property
    def next_id(self) -> int:
        """The id that follows the last event in the log; 1 for an empty one."""
        return self._next_id

    def __call__(self, event: TraceEvent) -> None:
        """Append one event.

        Raises:
            OSError: the disk is full or gone.
        """
        line = encode_event(event)
        with self._lock:
            self._file.write(line)
            self._next_id = max(self._next_id, event.id + 1)

    def close(self) -> None:
        """Close the log; later events raise ``ValueError``."""
        with self._lock:
            self._file.close()


def encode_event(event: TraceEvent) -> bytes:
    """One line of the log, newline included. Numbers that are not finite become null: JSON has no word for them."""
    plain = event_to_dict(event)
    try:
        text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(plain), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A lone surrogate (half an emoji in a model's token) has no UTF-8 form: it is written as "?".
    return text.encode("utf-8", "replace") + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def _recover(descriptor: int) -> int:
    """Cut off a torn last line; return the id of the last whole one, 0 without any."""
    size = os.fstat(descriptor).st_size
    reach = _TAIL_BYTES
    while size:
        start = max(0, size - reach)
        tail = os.pread(descriptor, size - start, start)
        end = tail.rfind(b"\n")
        before = tail.rfind(b"\n", 0, end) if end >= 0 else -1
        if start == 0 or before >= 0:
            last = _id_of(tail[before + 1 : end]) if end >= 0 else None
            if end + 1 < len(tail) or (end >= 0 and last is None):
                # Torn, or whole and yet no event (a crash of the machine can leave zeros): it goes, and we look again.
                keep = start + (end + 1 if end + 1 < len(tail) else before + 1)
                os.ftruncate(descriptor, keep)
                size = keep
                continue
            return last or 0
        reach *= 4
    return 0


def _id_of(line: bytes) -> int | None:
    try:
        plain = json.loads(line)
    except ValueError:
        return None
    number = plain.get("id") if isinstance(plain, dict) else None
    return number if isinstance(number, int) else None
