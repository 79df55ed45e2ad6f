"""Request bodies: read with a limit, parsed once, checked against a schema, with OpenAI's errors.

What it does: ``json_body(Schema)`` is the dependency that gives a route its checked body; ``retry_mark`` is what tells
that the client's library sent a creation of a job or a dataset task again. What it does not: uploads (``upload.py``).
FastAPI's own body reading is not used: it accepts NaN, knows no size limit and answers 422.
"""

import hashlib
from dataclasses import dataclass
from typing import Generic, TypeVar

import orjson
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ValidationError

from luthier.api.deps import caller_of, services_of
from luthier.api.validation import invalid_request_of, type_name
from luthier.core.errors import InvalidRequest
from luthier.jobs.queue import RetryMark

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 128
"""Most levels of objects and arrays inside each other: orjson reads 1024 and writes 254, and answers repeat parts of bodies."""
# Larger bodies are parsed in a thread, so that no request holds the event loop for long.
_INLINE_BYTES = 256 * 1024
_MAX_RETRIES = 1000
_MAX_KEY_CHARACTERS = 255

Body = TypeVar("Body", bound=BaseModel)


def _refuse_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise InvalidRequest("Compressed request bodies are not accepted.", code="unsupported_content_encoding")


async def raw_body(request: Request) -> bytes:
    """The body's bytes, read once per request.

    Raises:
        InvalidRequest: longer than ``MAX_BODY_BYTES`` (413), or compressed (415).
    """
    cached = getattr(request.state, "raw_body", None)
    if isinstance(cached, bytes):
        return cached
    _refuse_encoding(request)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise InvalidRequest(f"The request body is larger than the maximum of {MAX_BODY_BYTES} bytes.", code="request_too_large")
    request.state.raw_body = bytes(body)
    return request.state.raw_body


def _is_too_deep(plain: object) -> bool:
    level = [plain]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner for outer in level if isinstance(outer, dict | list) for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def _parse(raw: bytes, schema: type[Body]) -> Body:
    try:
        plain = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly. "
            "The API expects a JSON payload, but what was sent was not valid JSON.)"
        ) from error
    if not isinstance(plain, dict):
        raise InvalidRequest(f"Invalid body: expected an object, but got {type_name(plain)} instead.", code="invalid_type")
    # Counting brackets first spares nearly all bodies the walk.
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _is_too_deep(plain):
        raise InvalidRequest(f"Invalid body: more than {MAX_DEPTH} levels of objects and arrays inside each other.", code="invalid_value")
    try:
        return schema.model_validate(plain)
    except ValidationError as error:
        raise invalid_request_of(error.errors(include_url=False)) from error


@dataclass(frozen=True, slots=True)
class JsonBody(Generic[Body]):
    """The dependency that reads and checks a body of this schema; with ``optional`` no body at all stands for ``{}``."""

    schema: type[Body]
    optional: bool = False

    async def __call__(self, request: Request) -> Body:
        """The checked body.

        Raises:
            InvalidRequest: not JSON, another content type, or not what the schema says.
        """
        if self.optional and not await raw_body(request):
            return _parse(b"{}", self.schema)
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise InvalidRequest(
                f"Unsupported content type: '{media_type[:100]}'. This API method only accepts 'application/json' requests. "
                "(HINT: If you're using curl, you can pass -H 'Content-Type: application/json')",
                code="unsupported_content_type",
            )
        raw = await raw_body(request)
        if len(raw) <= _INLINE_BYTES:
            return _parse(raw, self.schema)
        return await run_in_threadpool(_parse, raw, self.schema)


def json_body(schema: type[Body], *, optional: bool = False) -> JsonBody[Body]:
    """What a route depends on to be given its checked body."""
    return JsonBody(schema, optional)


def _retry_count(text: str | None) -> int:
    return min(int(text), _MAX_RETRIES) if text and text.isascii() and text.isdigit() and len(text) < 10 else 0


async def retry_mark(request: Request) -> RetryMark:
    """Dependency: what tells a repeated create from a second one.

    Raises:
        InvalidRequest: an ``Idempotency-Key`` that is empty or too long.
    """
    services = services_of(request)
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= _MAX_KEY_CHARACTERS:
        raise InvalidRequest(f"The Idempotency-Key header must hold 1 to {_MAX_KEY_CHARACTERS} characters.", code="invalid_value")
    return RetryMark(
        api_key_id=caller_of(request).key_id,
        body_sha256=hashlib.sha256(f"{request.method} {request.scope['path']}\n".encode() + await raw_body(request)).hexdigest(),
        retry_count=_retry_count(request.headers.get("x-stainless-retry-count")),
        received_at=services.clock(),
        idempotency_key=key,
    )
