"""``multipart/form-data``, read piece by piece in flat memory.

What it does: reads a form with small text fields and one large field whose bytes are handed on as they come, and holds
each to a limit. What it does not: store bytes or know what the fields mean (``upload.py`` does). Starlette's own form
parser would write everything to a temporary file first. Called by ``upload.py``.
"""

import asyncio

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from luthier.core.errors import InvalidRequest, LuthierError

_CHUNK_BYTES = 1024 * 1024
_MAX_FIELDS = 16
_MAX_FIELD_BYTES = 16 * 1024
_MAX_FILENAME = 255
_MAX_BOUNDARY_BYTES = 70
# A refused form is read on this far, so that the client finishes sending and sees the answer instead of a broken pipe.
_DRAIN_BYTES = 64 * 1024 * 1024


def malformed(message: str) -> InvalidRequest:
    """The error for a form that cannot be read."""
    return InvalidRequest(f"Could not parse multipart form: {message}")


class Form:
    """The parts of one form. Used from one thread at a time; a subclass says in ``take`` where the large field goes.

    Args:
        boundary: what stands between the parts.
        large_field: name of the field whose bytes go to ``take``.
    """

    def __init__(self, boundary: bytes, large_field: str) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        """The large field's file name; None when the field is missing."""
        self.num_bytes = 0
        """Bytes of the large field so far."""
        self.large_field = large_field
        self._complete = False
        self._parts = 0
        self._headers: dict[bytes, bytes] = {}
        self._header_name = b""
        self._header_value = b""
        self._name = ""
        self._value = bytearray()
        self._in_large = False
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

    def take(self, piece: memoryview) -> None:
        """The next bytes of the large field; ``num_bytes`` counts them already."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Take the next bytes of the body.

        Raises:
            InvalidRequest: the form is malformed or over a limit.
            StorageFull: the disk is full.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise malformed("invalid data.") from error

    def check_complete(self, known: frozenset[str]) -> None:
        """To be called at the body's end.

        Args:
            known: names of the text fields that may be there.

        Raises:
            InvalidRequest: the form is cut off, has an unknown field, or its large field is missing or empty.
        """
        if not self._complete:
            raise malformed("it ends too early.")
        unknown = next((name[:100] for name in self.fields if name not in known), None)
        if unknown is not None:
            raise InvalidRequest(f"Unknown parameter: '{unknown}'.", code="unknown_parameter", param=unknown)
        if self.filename is None:
            message = f"Missing required parameter: '{self.large_field}'."
            raise InvalidRequest(message, code="missing_required_parameter", param=self.large_field)
        if not self.num_bytes:
            raise InvalidRequest(f"{self.large_field.capitalize()} is empty.", param=self.large_field)

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > _MAX_FIELDS:
            raise malformed(f"more than {_MAX_FIELDS} parts.")
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
            raise malformed("a part has no name.")
        self._name = options[b"name"].decode("utf-8", "replace")
        self._in_large = self._name == self.large_field
        if not self._in_large:
            return
        if self.filename is not None:
            raise malformed(f"more than one '{self.large_field}'.")
        self.filename = options.get(b"filename", b"").decode("utf-8", "replace")[:_MAX_FILENAME] or "upload"

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_large:
            self._value += data[start:end]
            if len(self._value) > _MAX_FIELD_BYTES:
                raise malformed(f"the field is longer than {_MAX_FIELD_BYTES} bytes.")
            return
        self.num_bytes += end - start
        self.take(memoryview(data)[start:end])

    def _end_part(self) -> None:
        if not self._in_large:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self._complete = True


def boundary_of(request: Request) -> bytes:
    """The boundary that the request's content type names.

    Raises:
        InvalidRequest: the body is no form, or compressed.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidRequest("Compressed request bodies are not accepted.", code="unsupported_content_encoding")
    media_type, options = parse_options_header(request.headers.get("content-type", ""))
    if media_type != b"multipart/form-data":
        raise InvalidRequest("This API method only accepts 'multipart/form-data' requests.", code="unsupported_content_type")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= _MAX_BOUNDARY_BYTES:
        raise malformed("no usable boundary.")
    return boundary


async def read_form(request: Request, form: Form, refusal: LuthierError | None = None) -> None:
    """Read the whole body into ``form``.

    Args:
        refusal: the request is refused already: nothing of its body is kept.

    Raises:
        InvalidRequest: the form is malformed or over a limit.
        StorageFull: the disk is full.
        LuthierError: ``refusal``.
    """
    pending: list[bytes] = []
    num_pending = 0
    read_on = _DRAIN_BYTES
    writing: asyncio.Task[LuthierError | None] | None = None
    try:
        async for piece in request.stream():
            if refusal is not None:
                read_on -= len(piece)
                if read_on < 0:
                    break
                continue
            pending.append(piece)
            num_pending += len(piece)
            if num_pending >= _CHUNK_BYTES:
                # While a thread writes one chunk, the next one arrives; there are never more than these two.
                refusal = None if writing is None else await writing
                if refusal is None:
                    writing = asyncio.create_task(run_in_threadpool(_write, form, pending))
                pending, num_pending = [], 0
        refusal = refusal or (None if writing is None else await writing)
        refusal = refusal or await run_in_threadpool(_write, form, pending)
    finally:
        if writing is not None:
            # The client went away: what the form writes to is closed next.
            await asyncio.wait([writing])
    if refusal is not None:
        raise refusal


def _write(form: Form, pieces: list[bytes]) -> LuthierError | None:
    """The refusal is a value: the rest of the body is still to be read."""
    try:
        for piece in pieces:
            form.write(piece)
    except LuthierError as error:
        return error
    return None
