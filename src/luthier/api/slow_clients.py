"""Clients that send too slowly: each would otherwise hold a connection, and what is read of its request, for as long as it likes.

What it does: a connection whose request line and headers are not complete after ten seconds ends with a 408, and a body that brings
less than 1 kB a second over half a minute of waiting ends with one. What it does not: limit sizes (``bodies.py``,
``multipart.py``) or rates of requests (``rate_limits.py``). Used by ``cli/serve.py`` and ``edge.py``.
"""

import asyncio
from typing import Any

import h11
from starlette.types import Message, Receive
from uvicorn.protocols.http.h11_impl import H11Protocol

from luthier.core.errors import InvalidRequest

HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0
BODY_BYTES = 30_000
"""What ``BODY_SECONDS`` of waiting for a body must bring at least."""
_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class HeadDeadline(H11Protocol):
    """uvicorn's protocol, with a time by which the head of a request is there."""

    head_seconds = HEAD_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As uvicorn makes its own."""
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new connection: its first request is due."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.head_seconds, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Bytes came: a head is complete, or one has begun."""
        super().data_received(data)
        begun = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        if not begun:
            self._forget()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.head_seconds, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._forget()
        super().connection_lost(exc)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            # Browsers open connections that they may never use: those end without a word.
            if self.conn.trailing_data[0]:
                self.transport.write(_TOO_LATE)
            self.transport.close()


class PacedBody:
    """An ASGI ``receive`` that gives up on a body that comes too slowly.

    Only the time spent waiting for the client counts: a server that is slow to take a body in does not hurry its client.
    """

    def __init__(self, receive: Receive, *, seconds: float = BODY_SECONDS, num_bytes: int = BODY_BYTES) -> None:
        """Watch ``receive``: ``seconds`` of waiting must bring ``num_bytes``."""
        self._receive = receive
        self._seconds, self._num_bytes = seconds, num_bytes
        self._left, self._came = seconds, 0
        self._complete = False

    async def __call__(self) -> Message:
        """The next message.

        Raises:
            InvalidRequest: the body comes too slowly (408).
        """
        if self._complete:  # what is waited for now is that the client goes away
            return await self._receive()
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._left):
                message = await self._receive()
        except TimeoutError as error:
            sentence = f"The request body came too slowly: less than {self._num_bytes} bytes in {self._seconds:g} seconds."
            raise InvalidRequest(sentence, code="request_timeout") from error
        self._complete = not message.get("more_body", False)
        self._left -= loop.time() - began
        self._came += len(message.get("body", b""))
        if self._came >= self._num_bytes:
            self._left, self._came = self._seconds, 0
        return message
