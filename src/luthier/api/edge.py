"""The outermost layer: the Host allow-list, the headers every answer carries, and the last resort for unforeseen errors.

What it does: refuses foreign Host headers before anything else looks at the request (DNS rebinding: a rebound request is
same-origin and only Host betrays it), stamps ``x-request-id`` and its companions, logs one line per request, and turns
what nobody caught into OpenAI's 500. What it does not: authenticate (``auth.py``). Built by ``app.py``.
"""

import logging
import re
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier.api.errors import error_response
from luthier.api.slow_clients import PacedBody
from luthier.core.errors import LuthierError, PermissionRefused
from luthier.core.ids import new_request_id
from luthier.core.settings import Settings

API_VERSION = "2020-10-01"
_LOG = logging.getLogger("luthier.api")
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")
_ALWAYS = frozenset({"localhost", "127.0.0.1", "[::1]", "testserver"})
_ANY = frozenset({"0.0.0.0", "::", "[::]"})  # noqa: S104 - names in a comparison, not a bind
_MAX_CLIENT_ID_CHARACTERS = 512


def host_allowed(values: list[str], configured: str) -> bool:
    """True when there is exactly one well-formed Host header and its name is this server's.

    Args:
        values: all Host headers of the request.
        configured: the address the server listens on; ``0.0.0.0`` and ``::`` stand for any name.
    """
    match = _HOST.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        return False
    own = configured.lower()
    own = f"[{own}]" if ":" in own and not own.startswith("[") else own
    return own in _ANY or match["name"].lower() in _ALWAYS | {own}


def _client_request_id(headers: Headers) -> str:
    value = headers.get("x-client-request-id", "")
    return value if value.isascii() and value.isprintable() and len(value) <= _MAX_CLIENT_ID_CHARACTERS else ""


class Edge:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of scope pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        started = time.perf_counter()
        request_id = new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        state = scope["state"]

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._stamp(MutableHeaders(scope=message), state, started)
            await send(message)

        try:
            if host_allowed(headers.getlist("host"), self._settings.host):
                await self._app(scope, PacedBody(receive), stamped)
            else:
                refusal = PermissionRefused("This server does not answer to that Host header. Start it with that name as LUTHIER_HOST.")
                await error_response(refusal)(scope, receive, stamped)
        except ClientDisconnect:
            _LOG.debug("%s client went away", request_id)
        except Exception:  # the process edge: nothing above could answer any more
            _LOG.exception("%s failed", request_id)
            if status:
                raise
            await error_response(LuthierError(""))(scope, receive, stamped)
        finally:
            seconds = time.perf_counter() - started
            client_id = _client_request_id(headers)
            _LOG.info("%s %s %r %d %.3f s %s", request_id, scope["method"], scope["path"], status, seconds, client_id)

    def _stamp(self, headers: MutableHeaders, state: dict[str, Any], started: float) -> None:
        """``state`` is the request's: its id, and, as far as it got, its caller and the headers of its rates."""
        headers["x-request-id"] = state["request_id"]
        headers["openai-organization"] = self._settings.organization
        headers["openai-processing-ms"] = str(round((time.perf_counter() - started) * 1000))
        headers["openai-version"] = API_VERSION
        headers["x-content-type-options"] = "nosniff"
        if "caller" in state:
            headers["openai-project"] = state["caller"].project_id
        if "rate_headers" in state:
            headers.update(state["rate_headers"]())
