"""An upload: ``multipart/form-data`` straight into the blob store, in flat memory.

What it does: reads the request piece by piece, hashes and writes the file's bytes as they come, checks the lines of a
fine-tuning file on the way, and holds every part to a limit. What it does not: make the file's row (``routes/files.py``
does, after the bytes are durable). Starlette's own form parser would write everything to a temporary file first.
"""

import contextlib
from dataclasses import dataclass

import orjson
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.jsonl import JsonlCheck
from luthier.core.settings import Settings
from luthier.storage.blobs import BlobStore, BlobWriter

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_CHUNK_BYTES = 1024 * 1024
_MAX_FIELDS = 16
_MAX_FIELD_BYTES = 16 * 1024
_MAX_FILENAME = 255
_MAX_BOUNDARY_BYTES = 70
# A refused upload is read on this far, so that the client finishes sending and sees the answer instead of a broken pipe.
_DRAIN_BYTES = 64 * 1024 * 1024
_EXPIRY_SECONDS = (3600, 2592000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A checked upload whose bytes are durable."""

    filename: str
    purpose: str
    expires_after_seconds: int | None
    sha256: str
    bytes: int


def _malformed(message: str) -> InvalidRequest:
    return InvalidRequest(f"Could not parse multipart form: {message}")


class _Form:
    """The parts of one form; the file's bytes go to ``blob`` and ``check``. Used from one thread at a time."""

    def __init__(self, boundary: bytes, blob: BlobWriter, settings: Settings) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.check = JsonlCheck(orjson.loads, max_line_bytes=settings.max_line_bytes)
        self.complete = False
        self._blob = blob
        self._max_bytes = settings.max_file_bytes
        self.num_bytes = 0
        self._parts = 0
        self._headers: dict[bytes, bytes] = {}
        self._header_name = b""
        self._header_value = b""
        self._name = ""
        self._value = bytearray()
        self._in_file = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_part_data": self._part_data,
                "on_part_end": self._end_part,
                "on_header_field": self._header_field,
                "on_header_value": self._header_data,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_end": self._end,
            },
        )

    def write(self, data: bytes) -> None:
        """Take the next bytes of the body.

        Raises:
            InvalidRequest: the form is malformed or over a limit.
            StorageFull: the disk is full.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _malformed("invalid data.") from error

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > _MAX_FIELDS:
            raise _malformed(f"more than {_MAX_FIELDS} parts.")
        self._headers = {}
        self._value = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_data(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise _malformed("a part has no name.")
        self._name = options[b"name"].decode("utf-8", "replace")
        self._in_file = self._name == "file"
        if not self._in_file:
            return
        if self.filename is not None:
            raise _malformed("more than one file.")
        self.filename = options.get(b"filename", b"").decode("utf-8", "replace")[:_MAX_FILENAME] or "upload"

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if not self._in_file:
            self._value += piece
            if len(self._value) > _MAX_FIELD_BYTES:
                raise _malformed(f"the field is longer than {_MAX_FIELD_BYTES} bytes.")
            return
        self.num_bytes += len(piece)
        if self.num_bytes > self._max_bytes:
            raise InvalidRequest(f"File is too large. The maximum is {self._max_bytes} bytes.", code="request_too_large", param="file")
        self._blob.write(piece)
        if self.fields.get("purpose", "fine-tune") == "fine-tune":
            self.check.feed(piece)

    def _end_part(self) -> None:
        if not self._in_file:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self.complete = True


def _expiry(fields: dict[str, str]) -> int | None:
    anchor, seconds = fields.pop("expires_after[anchor]", None), fields.pop("expires_after[seconds]", None)
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        message = "Invalid value for 'expires_after[anchor]'. Supported values are: 'created_at'."
        raise InvalidRequest(message, code="invalid_value", param="expires_after[anchor]")
    low, high = _EXPIRY_SECONDS
    if seconds is None or not seconds.isascii() or not seconds.isdigit() or len(seconds) > 9 or not low <= int(seconds) <= high:
        message = f"Invalid value for 'expires_after[seconds]'. Expected an integer from {low} to {high}."
        raise InvalidRequest(message, code="invalid_value", param="expires_after[seconds]")
    return int(seconds)


def _purpose(fields: dict[str, str]) -> str:
    purpose = fields.pop("purpose", None)
    if purpose is None:
        raise InvalidRequest("Missing required parameter: 'purpose'.", code="missing_required_parameter", param="purpose")
    if purpose not in PURPOSES:
        raise InvalidRequest(f"{purpose[:100]!r} is not one of {list(PURPOSES)} - 'purpose'", param="purpose")
    return purpose


def _finish(form: _Form, blob: BlobWriter) -> Upload:
    """Check the whole form, then make the blob durable."""
    if not form.complete:
        raise _malformed("it ends too early.")
    fields = dict(form.fields)
    purpose = _purpose(fields)
    expires_after_seconds = _expiry(fields)
    if fields:
        name = next(iter(fields))[:100]
        raise InvalidRequest(f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
    if form.filename is None:
        raise InvalidRequest("Missing required parameter: 'file'.", code="missing_required_parameter", param="file")
    fault = form.check.finish() if purpose == "fine-tune" else None
    if fault is not None:
        raise InvalidRequest(fault)
    if not form.num_bytes:
        raise InvalidRequest("File is empty.", param="file")
    sha256, size = blob.commit()
    return Upload(filename=form.filename, purpose=purpose, expires_after_seconds=expires_after_seconds, sha256=sha256, bytes=size)


def _boundary(request: Request) -> bytes:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidRequest("Compressed request bodies are not accepted.", code="unsupported_content_encoding")
    media_type, options = parse_options_header(request.headers.get("content-type", ""))
    if media_type != b"multipart/form-data":
        raise InvalidRequest("This API method only accepts 'multipart/form-data' requests.", code="unsupported_content_type")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= _MAX_BOUNDARY_BYTES:
        raise _malformed("no usable boundary.")
    return boundary


async def receive(request: Request, blobs: BlobStore, settings: Settings) -> Upload:
    """Read one upload to its end.

    Raises:
        InvalidRequest: the form or the file is refused; nothing of it is kept.
        StorageFull: the disk is full.
    """
    boundary = _boundary(request)
    with contextlib.ExitStack() as stack:
        blob = await run_in_threadpool(lambda: stack.enter_context(blobs.writer()))
        form = _Form(boundary, blob, settings)
        pending = bytearray()
        refusal: LuthierError | None = None
        read_on = _DRAIN_BYTES
        async for piece in request.stream():
            if refusal is not None:
                read_on -= len(piece)
                if read_on < 0:
                    break
                continue
            pending += piece
            if len(pending) >= _CHUNK_BYTES:
                refusal = await run_in_threadpool(_write, form, bytes(pending))
                pending.clear()
        refusal = refusal or await run_in_threadpool(_write, form, bytes(pending))
        if refusal is not None:
            raise refusal
        return await run_in_threadpool(_finish, form, blob)


def _write(form: _Form, data: bytes) -> LuthierError | None:
    """The refusal is a value: the rest of the body is still to be read."""
    try:
        form.write(data)
    except LuthierError as error:
        return error
    return None
