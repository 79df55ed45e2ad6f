"""The engine host as a pipeline sees it: a host that is being restarted is waited for, not failed on.

What it does: repeats a request while the host is away, up to a minute; begins none once the run must stop, so that a pause or a
stop of the server does not wait for a whole evaluation. What it does not: speak the protocol (``engine_link.py``). Called by
``worker/child.py``.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from luthier.core.engine_messages import EngineReply, EngineRequest, Finished, Generate
from luthier.core.errors import Unavailable
from luthier.core.generation import TokenLogprob
from luthier.worker.engine_link import EngineLink

PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.25
T = TypeVar("T")


class PatientEngine:
    """An ``EnginePort`` over a link that may be down for a while."""

    def __init__(self, link: EngineLink, should_stop: Callable[[], bool]) -> None:
        self._link = link
        self._should_stop = should_stop

    def request(self, message: EngineRequest, *, timeout_seconds: float = 600.0) -> EngineReply:
        """See ``EnginePort.request``."""
        return self._patiently(lambda: self._link.request(message, timeout_seconds=timeout_seconds))

    def generate(self, message: Generate) -> tuple[str, list[TokenLogprob], Finished]:
        """See ``EnginePort.generate``."""
        return self._patiently(lambda: self._link.generate(message))

    def _patiently(self, call: Callable[[], T]) -> T:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            if self._should_stop():
                raise Unavailable("The run must stop.")
            try:
                return call()
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_SECONDS)
