"""The one table from core error class to HTTP status and ``type``, and the error body that every answer shares.

What it does: turns any error into ``{"error": {"message", "type", "param", "code"}}`` (reference, section 0.2).
What it does not: decide when something is an error. Called by ``app.py`` (handlers), ``edge.py`` (last resort) and
``sse.py`` (errors after a stream has begun).
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from luthier.api.validation import invalid_request_of
from luthier.core.errors import (
    AuthenticationFailed,
    InvalidRequest,
    LuthierError,
    NotFound,
    PermissionRefused,
    StorageFull,
    TooManyRequests,
    Unavailable,
)

INVALID = "invalid_request_error"
SERVER = "server_error"
SERVER_MESSAGE = (
    "The server had an error while processing your request. Sorry about that! The server's log tells more under this request id."
)


@dataclass(frozen=True, slots=True)
class HttpError:
    """How one class of error looks on the wire."""

    status: int
    type: str
    headers: dict[str, str] = field(default_factory=dict)


# The SDK retries 408, 409, 429 and 5xx; x-should-retry overrides it where a retry is pointless (reference, section 7.4).
TABLE: dict[type[LuthierError], HttpError] = {
    InvalidRequest: HttpError(400, INVALID),
    AuthenticationFailed: HttpError(401, INVALID, {"www-authenticate": "Bearer"}),
    PermissionRefused: HttpError(403, INVALID),
    NotFound: HttpError(404, INVALID),
    TooManyRequests: HttpError(429, "requests"),
    Unavailable: HttpError(503, SERVER, {"retry-after": "1"}),
    StorageFull: HttpError(507, SERVER, {"x-should-retry": "false"}),
    # Everything else, JobFailure and StaleLease included, is a fault of ours when it gets this far.
    LuthierError: HttpError(500, SERVER),
}

# Codes whose status is more telling than their class's.
BY_CODE: dict[str, HttpError] = {
    "idempotency_key_reused": HttpError(422, INVALID, {"x-should-retry": "false"}),
    "request_too_large": HttpError(413, INVALID, {"x-should-retry": "false"}),
    "request_timeout": HttpError(408, INVALID),
    "compressed_file": HttpError(415, INVALID),
    "unsupported_content_encoding": HttpError(415, INVALID),
}

CLASSES: dict[str, type[LuthierError]] = {cls.__name__: cls for cls in TABLE}
"""Error classes by name: the ``kind`` of an engine's ``Failed`` reply."""


def http_error_of(error: LuthierError) -> HttpError:
    """The table's row for an error: its code's, else its own class's, else that of its nearest ancestor."""
    if error.code in BY_CODE:
        return BY_CODE[error.code]
    return next(TABLE[cls] for cls in type(error).__mro__ if cls in TABLE)


def error_body(error: LuthierError) -> dict[str, Any]:
    """The wire form. A fault of ours never shows its own text: it may name paths."""
    row = http_error_of(error)
    message = SERVER_MESSAGE if row.status == 500 else error.message
    kind = error.limited if isinstance(error, TooManyRequests) else row.type
    return {"error": {"message": message, "type": kind, "param": error.param, "code": error.code}}


def error_response(error: LuthierError) -> Response:
    """The whole answer for an error."""
    row = http_error_of(error)
    headers = {**row.headers, **_retry_headers(error)}
    return Response(orjson.dumps(error_body(error)), status_code=row.status, headers=headers, media_type="application/json")


def _retry_headers(error: LuthierError) -> dict[str, str]:
    """When a client that was refused for its rate should come again, and that it should not where waiting would be too long."""
    if not isinstance(error, TooManyRequests):
        return {}
    headers = {"x-should-retry": "false"} if error.pointless else {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
        headers["retry-after-ms"] = str(max(1, math.ceil(error.retry_after * 1000)))
    return headers


def _http_exception(request: Request, error: HTTPException) -> Response:
    # The scope's path, never request.url: that one is put together from the Host header.
    path = request.scope["path"]
    if error.status_code == 404:
        return error_response(NotFound(f"Invalid URL ({request.method} {path})"))
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        body = error_body(
            InvalidRequest(
                f"Not allowed to {request.method} on {path}. (HINT: Perhaps you meant to use {allowed or 'another method'}?)",
                code="method_not_supported",
            )
        )
        return Response(orjson.dumps(body), status_code=405, headers={"allow": allowed}, media_type="application/json")
    if error.status_code < 500:
        return error_response(InvalidRequest("The request could not be read."))
    return error_response(LuthierError(SERVER_MESSAGE))


def _handle(request: Request, error: Exception) -> Response:
    if isinstance(error, LuthierError):
        return error_response(error)
    if isinstance(error, RequestValidationError):
        return error_response(invalid_request_of(error.errors()))
    assert isinstance(error, HTTPException)
    return _http_exception(request, error)


async def handle(request: Request, error: Exception) -> Response:
    """One handler for every class in ``HANDLED``."""
    return _handle(request, error)


HANDLED: tuple[type[Exception], ...] = (LuthierError, RequestValidationError, HTTPException)
Handler = Callable[[Request, Exception], Awaitable[Response]]
