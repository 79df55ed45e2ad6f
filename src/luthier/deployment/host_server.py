"""The engine host's socket: one JSON line in, replies out, one request per connection; a closed connection aborts.

What it does: checks the secret, hands requests to the desk on the engine's thread, writes its replies. What it does
not: carry requests out. Called by ``host.py``; runs on the main thread's event loop.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from luthier.core.engine_messages import MAX_LINE_BYTES, EngineReply, EngineRequest, decode_request, encode, is_last
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.deployment.host_requests import Desk, Ticket, failure_of
from luthier.engine.engine import STOPPING, Engine

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 60.0
"""Time for a caller to send its whole line."""
FLUSH_SECONDS = 30.0
"""Time for a caller to read what is left after the last reply."""
_OWNER_ONLY = 0o177


class Outbox:
    """Carries replies from the engine's thread to the event loop, many with one wake-up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def post(self, deliver: Callable[[], None]) -> None:
        """Run ``deliver`` on the event loop soon, after those posted before. Safe from any thread."""
        self._waiting.append(deliver)
        if not self._scheduled:
            self._scheduled = True
            # The loop is closed while the process ends: nobody is left to read.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # First the flag, then the replies: what is posted in between schedules a (possibly empty) round of its own.
        self._scheduled = False
        while self._waiting:
            self._waiting.popleft()()


class HostServer:
    """Serves one Unix socket."""

    def __init__(self, engine: Engine, desk: Desk, *, secret: str) -> None:
        self._engine = engine
        self._desk = desk
        self._secret = secret
        self._outbox = Outbox(asyncio.get_running_loop())
        self._connections: set[asyncio.Task[None]] = set()
        self._draining = False

    async def listen(self, socket_path: Path) -> asyncio.AbstractServer:
        """Start to accept callers; a socket left by an earlier process is replaced."""
        socket_path.unlink(missing_ok=True)
        before = os.umask(_OWNER_ONLY)
        try:
            return await asyncio.start_unix_server(self._accept, path=str(socket_path), limit=MAX_LINE_BYTES)
        finally:
            os.umask(before)

    async def drain(self, timeout_seconds: float) -> None:
        """Refuse new requests and wait for those under way, at most so long."""
        self._draining = True
        if self._connections:
            await asyncio.wait(self._connections, timeout=timeout_seconds)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._converse(reader, writer))
        self._connections.add(task)
        try:
            await task
        except (ConnectionError, TimeoutError):
            logger.debug("a caller went away")
        finally:
            self._connections.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await self._read(reader)
        except LuthierError as error:
            writer.write(encode(failure_of(error)))
        else:
            if request is None:
                return
            if self._draining:
                writer.write(encode(STOPPING))
            else:
                await self._carry_out(request, reader, writer)
        await asyncio.wait_for(writer.drain(), FLUSH_SECONDS)

    async def _carry_out(self, request: EngineRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        finished = asyncio.Event()

        def deliver(reply: EngineReply) -> None:
            if not writer.is_closing():
                writer.write(encode(reply))
            if is_last(reply):
                finished.set()

        ticket = Ticket(emit=lambda reply: self._outbox.post(lambda: deliver(reply)))
        self._engine.call(lambda: self._desk.serve(request, ticket))
        done = asyncio.create_task(finished.wait())
        gone = asyncio.create_task(_closed(reader))
        try:
            await asyncio.wait((done, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not finished.is_set():
                self._engine.call(lambda: self._desk.cancel(ticket))
            done.cancel()
            gone.cancel()

    async def _read(self, reader: asyncio.StreamReader) -> EngineRequest | None:
        """The request of a connection; None when the caller left without one."""
        try:
            line = await asyncio.wait_for(reader.readline(), REQUEST_SECONDS)
        except ValueError as error:
            raise InvalidRequest(f"The request is longer than {MAX_LINE_BYTES} bytes.") from error
        if not line.endswith(b"\n"):
            return None
        return decode_request(line, self._secret)


async def _closed(reader: asyncio.StreamReader) -> None:
    """Until the caller closes; what it sends after its request is thrown away."""
    with suppress(ConnectionError):
        while await reader.read(4096):
            pass
