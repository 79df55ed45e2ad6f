"""``/uploads``: large files in parts: create, add parts, complete, cancel (reference, section 1.3)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from luthier.api.assembly import complete_upload
from luthier.api.bodies import json_body
from luthier.api.deps import Injected, Services
from luthier.api.file_rules import check_filename, largest
from luthier.api.mapping import part_object, upload_object
from luthier.api.replies import JsonReply
from luthier.api.schemas.uploads import UploadCompleteRequest, UploadCreateRequest
from luthier.api.upload import receive_part
from luthier.core.errors import InvalidRequest
from luthier.core.ids import new_upload_id
from luthier.core.uploads import LIFETIME_SECONDS, UploadRecord

router = APIRouter(prefix="/uploads")


def _shown(services: Services, upload: UploadRecord) -> Response:
    file = None if upload.file_id is None else services.files.get(upload.file_id)
    return JsonReply(upload_object(upload, file))


@router.post("")
def create_upload(body: Annotated[UploadCreateRequest, Depends(json_body(UploadCreateRequest))], services: Injected) -> Response:
    """Begin an upload in parts; it takes them for an hour."""
    check_filename(body.filename, body.purpose, "filename")
    limit = largest(body.purpose, services.settings.max_upload_bytes)
    if body.bytes > limit:
        message = f"Invalid 'bytes': integer above maximum value. Expected a value <= {limit}, but got {body.bytes} instead."
        raise InvalidRequest(message, code="integer_above_max_value", param="bytes")
    now = int(services.clock())
    upload = UploadRecord(
        id=new_upload_id(),
        filename=body.filename,
        purpose=body.purpose,
        bytes=body.bytes,
        mime_type=body.mime_type,
        created_at=now,
        expires_at=now + LIFETIME_SECONDS,
        file_expires_after=None if body.expires_after is None else body.expires_after.seconds,
    )
    services.uploads.add(upload)
    return _shown(services, upload)


@router.post("/{upload_id}/parts")
async def add_part(upload_id: str, request: Request, services: Injected) -> Response:
    """Add a part, in any order and beside others; its bytes are durable before its row is."""
    return JsonReply(part_object(await receive_part(request, upload_id, services)))


@router.post("/{upload_id}/complete")
def complete(
    upload_id: str, body: Annotated[UploadCompleteRequest, Depends(json_body(UploadCompleteRequest))], services: Injected
) -> Response:
    """Join the parts to a file, or answer with the one that the same request made before."""
    return _shown(services, complete_upload(services, upload_id, body.part_ids, body.md5))


@router.post("/{upload_id}/cancel")
def cancel(upload_id: str, services: Injected) -> Response:
    """Cancel an upload; its parts are removed."""
    upload, freed = services.uploads.cancel(upload_id)
    services.parts.remove(freed)
    return _shown(services, upload)
