"""The API's line to the engine host: one Unix-socket connection per request.

What it does: sends a request of ``core.engine_messages``, yields its replies, turns ``Failed`` back into the error it
names, and closes the connection whenever its caller stops (which aborts the generation). What it does not: retry; the
engine host's parent starts it again. Called by ``generations.py`` and the routes.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from luthier.api.errors import CLASSES
from luthier.core.engine_messages import MAX_LINE_BYTES, EngineReply, EngineRequest, Failed, decode, encode, is_last
from luthier.core.errors import LuthierError, Unavailable

_GONE = "The model server is starting or restarting. Please retry your request in a moment."


class EngineClient:
    """Asks the engine host. Holds no connection between requests."""

    def __init__(self, socket_path: str, secret: str) -> None:
        self._socket_path = socket_path
        self._secret = secret

    async def stream(self, message: EngineRequest) -> AsyncGenerator[EngineReply, None]:
        """The replies, the last one included. Close the iterator to abort.

        Raises:
            LuthierError: the class that a ``Failed`` reply names.
            Unavailable: the host cannot be reached, or went away before its last reply.
        """
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket_path, limit=MAX_LINE_BYTES)
            writer.write(encode(message, secret=self._secret))
            await writer.drain()
            while True:
                line = await reader.readline()
                if not line.endswith(b"\n"):
                    raise Unavailable(_GONE)
                reply: EngineReply = decode(line)
                if isinstance(reply, Failed):
                    raise _error_of(reply)
                yield reply
                if is_last(reply):
                    return
        except OSError as error:
            raise Unavailable(_GONE) from error
        finally:
            if writer is not None:
                writer.close()

    async def request(self, message: EngineRequest, *, timeout_seconds: float | None = None) -> EngineReply:
        """The last reply to a request.

        Raises:
            LuthierError: as ``stream``; ``Unavailable`` also when no answer came within ``timeout_seconds``.
        """
        try:
            async with asyncio.timeout(timeout_seconds), contextlib.aclosing(self.stream(message)) as replies:
                last: EngineReply | None = None
                async for reply in replies:
                    last = reply
        except TimeoutError as error:
            raise Unavailable("The model server did not answer in time.") from error
        if last is None:
            raise Unavailable(_GONE)
        return last


def _error_of(failed: Failed) -> LuthierError:
    return CLASSES.get(failed.kind, LuthierError)(failed.message, code=failed.code, param=failed.param)
