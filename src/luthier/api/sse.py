"""Server-sent events: framing, errors after the stream has begun, and the end of the work when the client goes away.

What it does: frames JSON as ``data:`` lines, ends with ``[DONE]``, turns an error into ``data: {"error": ...}``, and
closes the source of the events whatever happens. What it does not: know what the events say (``answers.py``). Called by
``generations.py``.
"""

import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

import orjson
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from luthier.api.errors import error_body
from luthier.core.errors import LuthierError

DONE = b"data: [DONE]\n\n"
_LOG = logging.getLogger("luthier.api")


def frame(data: dict[str, Any]) -> bytes:
    """One event."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


async def framed(events: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[bytes, None]:
    """All events, framed. After an error there is no ``[DONE]``: the answer is not complete."""
    try:
        async for event in events:
            yield frame(event)
        yield DONE
    except LuthierError as error:
        yield frame(error_body(error))
    except Exception:  # noqa: BLE001 - the process edge: the status line is already sent
        _LOG.exception("a stream failed")
        yield frame(error_body(LuthierError("")))


class EventStream(StreamingResponse):
    """A streamed answer over ``events``; ``source`` is what they are made from, ``frames`` how they are written."""

    def __init__(
        self,
        events: AsyncGenerator[dict[str, Any], None],
        source: AsyncGenerator[Any, None],
        frames: Callable[[AsyncGenerator[dict[str, Any], None]], AsyncGenerator[bytes, None]] = framed,
    ) -> None:
        self._frames = frames(events)
        self._events = events
        self._source = source
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(self._frames, media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream. When the client goes away, or at the end, the source is closed, and with it the generation."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # From the outside in: a generator that never started does not close what it would have read.
            await self._frames.aclose()
            await self._events.aclose()
            await self._source.aclose()
