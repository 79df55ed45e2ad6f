"""The emitter that every stage is handed: it stamps envelopes and passes them to its sinks.

What it does: id, run, attempt, time. What it does not: decide what is worth telling, or write files. Called by the
stages; built in ``worker/pipelines.py`` with the log writer and the database recorder as sinks, in tests with a list.
"""

import threading
import time
from collections.abc import Callable, Sequence

from luthier.core.stage import Stage
from luthier.trace.events import Payload, TraceEvent

Sink = Callable[[TraceEvent], None]


class Tracer:
    """Stamps payloads and hands the events to every sink, in order, from any thread."""

    def __init__(
        self, run: str, sinks: Sequence[Sink], *, attempt: int = 1, next_id: int = 1, clock: Callable[[], float] = time.time
    ) -> None:
        self._run = run
        self._sinks = tuple(sinks)
        self._attempt = attempt
        self._next_id = next_id
        self._clock = clock
        self._lock = threading.Lock()

    def emit(self, stage: Stage, payload: Payload) -> TraceEvent:
        """Stamp and deliver one event; returns it."""
        with self._lock:
            event = TraceEvent(id=self._next_id, run=self._run, attempt=self._attempt, time=self._clock(), stage=stage, payload=payload)
            self._next_id += 1
            for sink in self._sinks:
                sink(event)
        return event
