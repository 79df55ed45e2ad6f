"""A request of the server to itself: one line of a batch goes through the whole application, as if a client had sent it.

What it does: calls the ASGI application with a scope of its own, in which the caller is known already. What it does not: open a
connection, read keys. Called by ``runner.py``. So a batch can never answer otherwise than the route does.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Scope

from luthier.api.auth import INNER_CALLER
from luthier.core.keys import Caller


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    request_id: str
    body: dict[str, Any]


def _scope(path: str, caller: Caller) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": None,
        "server": ("localhost", None),
        "state": {},
        INNER_CALLER: caller,
    }


async def post(app: ASGIApp, path: str, body: dict[str, Any], caller: Caller) -> Answer:
    """Send a body to a route and wait for its whole answer, which must be JSON."""
    sent = [orjson.dumps(body)]
    status, headers, pieces = 0, Headers(), bytearray()

    async def receive() -> Message:
        if sent:
            return {"type": "http.request", "body": sent.pop(), "more_body": False}
        # Nobody hangs up; whoever stops the batch cancels this call.
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], Headers(raw=message["headers"])
        elif message["type"] == "http.response.body":
            pieces.extend(message.get("body", b""))

    await app(_scope(path, caller), receive, send)
    return Answer(status, headers.get("x-request-id", ""), orjson.loads(pieces))
