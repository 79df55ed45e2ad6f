"""Reads a run's log while it grows.

What it does: pages of events after an id; a last line that is still being written is left for the next call, and a line that
is no event of a known type is passed over. What it does not: make views of them (``view.py``). Called by the API's trace
route, ``worker/results.py``, the loggers' processes and the terminal trace.
"""

import json
import os
import re
from pathlib import Path

from luthier.trace.events import PAYLOADS, TraceEvent, event_from_dict

# The writer puts the id near the front: lines that were read before are passed over without parsing them.
_ID = re.compile(rb'^\{"schema":\d+,"id":(\d+),')


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
