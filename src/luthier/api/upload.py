"""What one upload request brings: a whole file, or a part of one.

What it does: sends the bytes of ``POST /files`` straight into the blob store and those of a part into its own file, checks
the lines of a fine-tuning file on the way, and holds every field to its limit. What it does not: read the form itself
(``multipart.py``), make the file's row (``routes/files.py`` does, after the bytes are durable).
"""

import contextlib
from dataclasses import dataclass

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError

from luthier.api.deps import Services
from luthier.api.file_rules import CHECKED_PURPOSE, PURPOSES, check_filename, check_size, largest
from luthier.api.line_check import LineCheck
from luthier.api.multipart import Form, boundary_of, read_form
from luthier.api.schemas.uploads import Expiry
from luthier.api.validation import invalid_request_of
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.ids import new_part_id
from luthier.core.settings import Settings
from luthier.core.uploads import PartRecord
from luthier.storage.blobs import BlobStore, BlobWriter
from luthier.storage.parts import PartWriter

_ANCHOR, _SECONDS = "expires_after[anchor]", "expires_after[seconds]"
_MAX_DIGITS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A checked file whose bytes are durable."""

    filename: str
    purpose: str
    expires_after_seconds: int | None
    sha256: str
    bytes: int


class _FileForm(Form):
    """The form of ``POST /files``; the file's bytes go to ``blob`` and, while it may be for fine-tuning, to ``check``."""

    def __init__(self, boundary: bytes, blob: BlobWriter, check: LineCheck, settings: Settings) -> None:
        super().__init__(boundary, "file")
        self.check = check
        self._blob = blob
        self._max_bytes = settings.max_file_bytes

    def take(self, piece: memoryview) -> None:
        """Store and check the next bytes."""
        purpose = self.fields.get("purpose", CHECKED_PURPOSE)
        self.check_size(purpose)
        self._blob.write(piece)
        if purpose == CHECKED_PURPOSE:
            self.check.feed(piece)

    def check_size(self, purpose: str) -> None:
        """Raises InvalidRequest when the file is too large for its purpose."""
        check_size(self.num_bytes, largest(purpose, self._max_bytes), "file")


class _PartForm(Form):
    """The form of ``POST /uploads/{id}/parts``."""

    def __init__(self, boundary: bytes, part: PartWriter, max_bytes: int) -> None:
        super().__init__(boundary, "data")
        self._part = part
        self._max_bytes = max_bytes

    def take(self, piece: memoryview) -> None:
        """Store the next bytes."""
        check_size(self.num_bytes, self._max_bytes, "data")
        self._part.write(piece)


def _number(text: str) -> int | str:
    """What stands in a form is text; what is no integer stays text, and the schema says so."""
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS else text


def _expiry(fields: dict[str, str]) -> int | None:
    given: dict[str, object] = {}
    if _ANCHOR in fields:
        given["anchor"] = fields[_ANCHOR]
    if _SECONDS in fields:
        given["seconds"] = _number(fields[_SECONDS])
    if not given:
        return None
    try:
        checked = Expiry.model_validate({"expires_after": given})
    except ValidationError as error:
        raise invalid_request_of(error.errors(include_url=False)) from error
    return None if checked.expires_after is None else checked.expires_after.seconds


def _purpose(fields: dict[str, str]) -> str:
    purpose = fields.get("purpose")
    if purpose is None:
        raise InvalidRequest("Missing required parameter: 'purpose'.", code="missing_required_parameter", param="purpose")
    if purpose not in PURPOSES:
        raise InvalidRequest(f"{purpose[:100]!r} is not one of {list(PURPOSES)} - 'purpose'", param="purpose")
    return purpose


def _finish_file(form: _FileForm, blob: BlobWriter) -> Upload:
    """Check the whole form, then make the blob durable."""
    form.check_complete(frozenset({"purpose", _ANCHOR, _SECONDS}))
    assert form.filename is not None
    purpose = _purpose(form.fields)
    expires_after_seconds = _expiry(form.fields)
    form.check_size(purpose)
    fault = form.check.finish() if purpose == CHECKED_PURPOSE else None
    if fault is not None:
        raise form.check.refusal(fault)
    # After the lines: whoever sends something else altogether is told so in the words that clients know.
    check_filename(form.filename, purpose, "file")
    sha256, size = blob.commit()
    return Upload(filename=form.filename, purpose=purpose, expires_after_seconds=expires_after_seconds, sha256=sha256, bytes=size)


async def receive(request: Request, blobs: BlobStore, settings: Settings) -> Upload:
    """Read one file to its end.

    Raises:
        InvalidRequest: the form or the file is refused; nothing of it is kept.
        StorageFull: the disk is full.
    """
    boundary = boundary_of(request)
    with contextlib.ExitStack() as stack:
        blob = await run_in_threadpool(lambda: stack.enter_context(blobs.writer()))
        check = stack.enter_context(LineCheck(blob.path, max_line_bytes=settings.max_line_bytes))
        form = _FileForm(boundary, blob, check, settings)
        await read_form(request, form)
        return await run_in_threadpool(_finish_file, form, blob)


def _finish_part(form: _PartForm, writer: PartWriter, part_id: str, upload_id: str, services: Services) -> PartRecord:
    """Check the whole form, make the bytes durable, then the row."""
    form.check_complete(frozenset())
    writer.sync()
    part = PartRecord(id=part_id, upload_id=upload_id, bytes=form.num_bytes, created_at=int(services.clock()))
    services.uploads.add_part(part, max_bytes=services.settings.max_upload_bytes)
    writer.keep()
    return part


def _refusal(services: Services, upload_id: str) -> LuthierError | None:
    """The refusal is a value: the body is still to be read."""
    try:
        services.uploads.check_open(upload_id)
    except LuthierError as error:
        return error
    return None


async def receive_part(request: Request, upload_id: str, services: Services) -> PartRecord:
    """Read one part to its end; its bytes are durable before its row is.

    Raises:
        NotFound: no such upload.
        InvalidRequest: the upload takes no parts any more, or the form is refused; nothing of the part is kept.
        StorageFull: the disk is full.
    """
    refusal = await run_in_threadpool(_refusal, services, upload_id)
    boundary = boundary_of(request)
    part_id = new_part_id()
    with contextlib.ExitStack() as stack:
        writer = await run_in_threadpool(lambda: stack.enter_context(services.parts.writer(part_id)))
        form = _PartForm(boundary, writer, services.settings.max_part_bytes)
        await read_form(request, form, refusal)
        return await run_in_threadpool(_finish_part, form, writer, part_id, upload_id, services)
