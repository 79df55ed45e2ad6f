"""Reads a run's log while it grows.

What it does: pages of events after an id, found without reading those before it (ids grow along the log); a last line that is still being
written is left for the next call, and a line that is no event of a known type is passed over. What it does not: make views of them
(``view.py``). Called by the API's trace route, ``worker/results.py``, the loggers' processes and the terminal trace.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from luthier.trace.events import PAYLOADS, TraceEvent, event_from_dict

# The writer puts the id near the front: lines that were read before are passed over without parsing them.
_ID = re.compile(rb'^\{"schema":\d+,"id":(\d+),')
_NEAR_BYTES = 64 * 1024


def read_events(path: Path, after: int = 0, limit: int | None = None) -> tuple[tuple[TraceEvent, ...], bool]:
    """Events whose id is greater than ``after``, oldest first.

    Args:
        path: the log; a missing one is an empty one.
        after: id of the last event already read.
        limit: most events to return; None for all.

    Returns:
        The events, and whether there are more.
    """
    events: list[TraceEvent] = []
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return (), False
    with file:
        file.seek(_place_after(file, after))
        for line in file:
            if not line.endswith(b"\n"):
                break
            known = _ID.match(line)
            if known is not None and int(known.group(1)) <= after:
                continue
            event = decode_event(line)
            if event is None or event.id <= after:
                continue
            if limit is not None and len(events) == limit:
                return tuple(events), True
            events.append(event)
    return tuple(events), False


def each_event(path: Path) -> Iterator[TraceEvent]:
    """All events, one at a time, of a log that may be missing."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            event = decode_event(line) if line.endswith(b"\n") else None
            if event is not None:
                yield event


def last_id(path: Path) -> int:
    """The id of the last whole event; 0 without any."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return 0
    with file:
        end = file.seek(0, os.SEEK_END)
        reach = _NEAR_BYTES
        while True:
            start = max(0, end - reach)
            file.seek(start)
            # The first piece may begin inside a line; the last one is empty, or a line that is still being written.
            whole = file.read(end - start).split(b"\n")[0 if start == 0 else 1 : -1]
            for line in reversed(whole):
                known = _ID.match(line)
                if known is not None:
                    return int(known.group(1))
            if start == 0:
                return 0
            reach *= 4


def _place_after(file: BinaryIO, after: int) -> int:
    """The beginning of a line that stands at or shortly before the first one whose id is greater than ``after``."""
    low, high = 0, file.seek(0, os.SEEK_END) if after else 0
    while high - low > _NEAR_BYTES:
        middle = (low + high) // 2
        file.seek(middle)
        file.readline()
        place = file.tell()
        known = _ID.match(file.readline())
        if known is not None and int(known.group(1)) <= after:
            low = place
        else:
            high = middle
    return low


class LogTail:
    """A log read on from where the last call stopped, without reading the beginning again."""

    def __init__(self, path: Path, *, after: int = 0) -> None:
        """``after``: id of the last event that is known already."""
        self._path, self._after, self._offset = path, after, 0

    def read(self) -> tuple[TraceEvent, ...]:
        """What has come since the last call, oldest first; a last line that is still being written is left for the next one."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return ()
        events: list[TraceEvent] = []
        with file:
            if self._offset == 0:
                self._offset = _place_after(file, self._after)
            if os.fstat(file.fileno()).st_size < self._offset:
                self._offset = 0  # a damaged end was cut off by the next attempt; ids tell what is known
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                event = decode_event(line)
                if event is not None and event.id > self._after:
                    self._after = event.id
                    events.append(event)
        return tuple(events)


def decode_event(line: bytes) -> TraceEvent | None:
    """The event of one line; None when the line holds none that is known here."""
    try:
        plain = json.loads(line)
        return event_from_dict(plain) if plain["type"] in PAYLOADS else None
    except (ValueError, KeyError, TypeError):
        return None
