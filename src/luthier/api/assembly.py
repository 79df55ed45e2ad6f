"""From the parts of an upload to its file.

What it does: joins the parts in the order that was asked for, in flat memory, into one durable blob, and checks size,
checksum and lines on the way; then upload and file change in one transaction. A crash before that leaves the upload
pending and its parts in place. What it does not: receive parts (``upload.py``). Called by ``routes/uploads.py``.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from luthier.api.deps import Services
from luthier.api.file_rules import CHECKED_PURPOSE, new_file
from luthier.api.line_check import LineCheck
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.uploads import PartRecord, UploadRecord
from luthier.storage.uploads import is_repeated, require_pending


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joined:
    sha256: str
    md5: str
    bytes: int


def complete_upload(services: Services, upload_id: str, part_ids: Sequence[str], md5: str | None) -> UploadRecord:
    """Complete an upload, or answer with what the same request made of it before.

    Args:
        part_ids: the order of the parts; parts that are not named are dropped.
        md5: what the file's bytes should have as MD5, in hexadecimal.

    Raises:
        NotFound: no such upload.
        InvalidRequest: it is over, or the parts are not what was promised; a pending upload stays pending.
        StorageFull: the disk is full.
    """
    md5 = None if md5 is None else md5.lower()
    started_at = services.clock()
    upload = services.uploads.load(upload_id)
    if is_repeated(upload, part_ids, md5):
        return upload
    require_pending(upload)
    try:
        parts = services.uploads.parts(upload_id, part_ids)
        _check_total(upload, sum(part.bytes for part in parts))
        joined = _join(services, upload, parts, md5)
    except (InvalidRequest, FileNotFoundError) as error:
        # The same request sent twice at once: the other one was quicker and has dropped the parts, rows and bytes.
        again = services.uploads.load(upload_id)
        if is_repeated(again, part_ids, md5):
            return again
        if isinstance(error, InvalidRequest):
            raise
        require_pending(again)
        raise LuthierError(f"Bytes of a part of {upload_id} are missing.") from error
    now = int(services.clock())
    file = new_file(upload.filename, upload.purpose, upload.file_expires_after, sha256=joined.sha256, num_bytes=joined.bytes, now=now)
    upload, freed = services.uploads.complete(upload_id, part_ids, md5=joined.md5, file=file, started_at=started_at)
    services.parts.remove(freed)
    return upload


def _check_total(upload: UploadRecord, total: int) -> None:
    if total != upload.bytes:
        message = f"The parts hold {total} bytes together, but upload {upload.id} was created for {upload.bytes} bytes."
        raise InvalidRequest(message, param="part_ids")


def _pieces(services: Services, parts: Sequence[PartRecord]) -> Iterator[bytes]:
    for part in parts:
        yield from services.parts.read(part.id)


def _join(services: Services, upload: UploadRecord, parts: Sequence[PartRecord], md5: str | None) -> _Joined:
    # Not for security: it finds bytes that were damaged on their way.
    digest = hashlib.md5(usedforsecurity=False)
    max_line_bytes = services.settings.max_line_bytes
    with services.blobs.writer() as blob, LineCheck(blob.path, max_line_bytes=max_line_bytes) as check:
        for piece in _pieces(services, parts):
            blob.write(piece)
            digest.update(piece)
            if upload.purpose == CHECKED_PURPOSE:
                check.feed(piece)
                if check.fault is not None:
                    raise check.refusal(check.fault)
        if md5 is not None and digest.hexdigest() != md5:
            message = f"The MD5 checksum of the uploaded bytes is {digest.hexdigest()}, but the request says {md5[:64]!r}."
            raise InvalidRequest(message, code="invalid_value", param="md5")
        fault = check.finish()
        if fault is not None:
            raise check.refusal(fault)
        sha256, size = blob.commit()
    return _Joined(sha256=sha256, md5=digest.hexdigest(), bytes=size)
