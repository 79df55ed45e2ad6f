"""Clients that dawdle: their connections end, and those of others do not."""

import asyncio
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from typing import ClassVar

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send

from luthier.api.slow_clients import HeadDeadline, PacedBody
from luthier.core.errors import InvalidRequest

ASK = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class _Quick(HeadDeadline):
    head_seconds: ClassVar[float] = 2.0


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    """To a server whose requests must begin with a whole head within two seconds."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(_app, http=_Quick, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    client = socket.create_connection(listener.getsockname())
    client.settimeout(20)
    yield client
    client.close()
    server.should_exit = True
    thread.join()
    listener.close()


def _rest(connection: socket.socket) -> bytes:
    said = b""
    while piece := connection.recv(1000):
        said += piece
    return said


def _answer(connection: socket.socket) -> bytes:
    said = b""
    while not said.endswith(b"\r\n\r\nok"):
        said += connection.recv(1000)
    return said


def test_a_head_that_is_never_whole_ends_with_408(connection: socket.socket) -> None:
    connection.sendall(b"GET /v1/mod")
    assert _rest(connection).startswith(b"HTTP/1.1 408 ")


def test_a_connection_on_which_nothing_is_said_ends_without_a_word(connection: socket.socket) -> None:
    assert _rest(connection) == b""


def test_a_second_head_that_is_never_whole_ends_too(connection: socket.socket) -> None:
    connection.sendall(ASK)
    assert _answer(connection).startswith(b"HTTP/1.1 200 ")
    connection.sendall(ASK[:9])
    assert b"HTTP/1.1 408 " in _rest(connection)


def test_a_body_and_a_kept_connection_have_more_time_than_a_head(connection: socket.socket) -> None:
    connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\na")
    time.sleep(2.5)
    connection.sendall(b"b")
    assert _answer(connection).startswith(b"HTTP/1.1 200 ")
    time.sleep(2.5)
    connection.sendall(ASK)
    assert _answer(connection).startswith(b"HTTP/1.1 200 ")


class _Jumps(selectors.DefaultSelector):
    """Waits for nothing: the time it would have waited has passed at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class _OwnTime(asyncio.SelectorEventLoop):
    """Its seconds do not hang on how busy the machine is."""

    def __init__(self) -> None:
        self._jumps = _Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.now


class _Client:
    """An ASGI ``receive``: pieces of a body, each after a pause; after the last one, silence."""

    def __init__(self, *pieces: tuple[float, int]) -> None:
        self._pieces = list(pieces)

    async def __call__(self) -> Message:
        if not self._pieces:
            await asyncio.sleep(0.4)
            return {"type": "http.disconnect"}
        pause, size = self._pieces.pop(0)
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": b"x" * size, "more_body": bool(self._pieces)}


def _read(*pieces: tuple[float, int], between: float = 0.0) -> int:
    async def read() -> int:
        receive = PacedBody(_Client(*pieces), seconds=0.3, num_bytes=100)
        total = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return total
            total += len(message["body"])
            await asyncio.sleep(between)

    with asyncio.Runner(loop_factory=_OwnTime) as runner:
        return runner.run(read())


def test_a_body_that_trickles_ends_with_408() -> None:
    with pytest.raises(InvalidRequest, match=r"less than 100 bytes in 0\.3 seconds") as raised:
        _read(*[(0.1, 10)] * 10)
    assert raised.value.code == "request_timeout"


def test_a_body_that_keeps_pace_is_read_and_waiting_for_its_end_takes_as_long_as_it_takes() -> None:
    assert _read(*[(0.1, 100)] * 6) == 600


def test_the_servers_own_slowness_is_not_the_clients() -> None:
    assert _read(*[(0.0, 10)] * 6, between=0.2) == 60
