"""A synchronous caller of the engine host, for the pipeline, the command line and tests: blocking Unix sockets.

What it does: one connection per request, errors raised as the ``core.errors`` class that the host named. What it does
not: retry (``patient_engine.py``) or stream to clients (``api/engine_client.py`` does). An ``EnginePort``.
"""

import socket
import time
from collections.abc import Generator, Iterator

from luthier.core import errors
from luthier.core.engine_messages import (
    EngineReply,
    EngineRequest,
    Failed,
    Finished,
    Generate,
    TokenChunk,
    decode,
    encode,
    is_last,
)
from luthier.core.errors import LuthierError, Unavailable
from luthier.core.generation import TokenLogprob

CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 600.0


class EngineLink:
    """The way to one engine host. Holds no connection, so any thread may use it."""

    def __init__(self, socket_path: str, secret: str) -> None:
        self._socket_path = socket_path
        self._secret = secret

    def request(self, message: EngineRequest, *, timeout_seconds: float = REQUEST_SECONDS) -> EngineReply:
        """Send one request and wait for its last reply.

        Raises:
            LuthierError: the class that the host named.
            Unavailable: the host is not there, went away, or took longer than ``timeout_seconds`` in all.
        """
        *_, last = self.replies(message, timeout_seconds=timeout_seconds)
        return last

    def generate(self, message: Generate, *, timeout_seconds: float = REQUEST_SECONDS) -> tuple[str, list[TokenLogprob], Finished]:
        """Generate one whole answer: its text, its tokens (if log-probabilities are asked for), and how it ended.

        Raises:
            LuthierError: as ``request``.
        """
        texts: list[str] = []
        tokens: list[TokenLogprob] = []
        for reply in self.replies(message, timeout_seconds=timeout_seconds):
            if isinstance(reply, TokenChunk):
                texts.append(reply.text)
                tokens.extend(reply.tokens)
            elif isinstance(reply, Finished):
                return "".join(texts), tokens, reply
        raise Unavailable("The engine ended an answer without saying why.")

    def replies(self, message: EngineRequest, *, timeout_seconds: float = REQUEST_SECONDS) -> Generator[EngineReply, None, None]:
        """All replies in order, the last included. Closing the iterator early aborts the request.

        Raises:
            LuthierError: as ``request``.
        """
        deadline = time.monotonic() + timeout_seconds
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(min(CONNECT_SECONDS, timeout_seconds))
                connection.connect(self._socket_path)
                connection.settimeout(timeout_seconds)
                connection.sendall(encode(message, secret=self._secret))
                for line in _lines(connection, deadline):
                    reply = decode(line)
                    if isinstance(reply, Failed):
                        raise _error_of(reply)
                    yield reply
                    if is_last(reply):
                        return
        except TimeoutError as error:
            raise Unavailable(f"The engine did not answer within {timeout_seconds:g} seconds.") from error
        except OSError as error:
            raise Unavailable("The engine cannot be reached.") from error
        raise Unavailable("The engine went away before it answered.")


def _lines(connection: socket.socket, deadline: float) -> Iterator[bytes]:
    """Whole lines until the other side closes."""
    pieces: list[bytes] = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        data = connection.recv(1 << 16)
        if not data:
            return
        *whole, rest = data.split(b"\n")
        for line in whole:
            yield b"".join(pieces) + line
            pieces = []
        if rest:
            pieces.append(rest)


def _error_of(failed: Failed) -> LuthierError:
    cls = getattr(errors, failed.kind, Unavailable)
    known = isinstance(cls, type) and issubclass(cls, LuthierError)
    return (cls if known else Unavailable)(failed.message, code=failed.code, param=failed.param)
