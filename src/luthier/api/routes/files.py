"""``/files``: upload, list, retrieve, content, delete (reference, sections 1.1, 1.2, 2.7)."""

import base64
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.responses import FileResponse, StreamingResponse

from luthier.api.deps import Injected, Services
from luthier.api.file_rules import new_file
from luthier.api.mapping import file_object
from luthier.api.replies import JsonReply, listing
from luthier.api.upload import Upload, receive
from luthier.core.errors import LuthierError, NotFound
from luthier.core.jobs import FileRecord

router = APIRouter(prefix="/files")
_LOG = logging.getLogger("luthier.api")
_RESULTS = "fine-tune-results"
# A multiple of three: only then do encoded pieces join to the encoding of the whole.
_BASE64_BYTES = 3 * 64 * 1024


def find_file(services: Services, file_id: str) -> FileRecord | None:
    """A file that exists and has not expired."""
    return services.files.get(file_id)


def _required(services: Services, file_id: str) -> FileRecord:
    record = find_file(services, file_id)
    if record is None:
        raise NotFound(f"No such File object: {file_id}", param="id")
    return record


def _store(services: Services, upload: Upload) -> FileRecord:
    now = int(services.clock())
    expires_after = upload.expires_after_seconds
    record = new_file(upload.filename, upload.purpose, expires_after, sha256=upload.sha256, num_bytes=upload.bytes, now=now)
    services.files.add(record)
    return record


@router.post("")
async def create_file(request: Request, services: Injected) -> Response:
    """Store an upload; its bytes are durable before its row is."""
    upload = await receive(request, services.blobs, services.settings)
    return JsonReply(file_object(await run_in_threadpool(_store, services, upload)))


@router.get("")
def list_files(
    services: Injected,
    purpose: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=10000)] = 10000,
    order: Literal["asc", "desc"] = "desc",
    after: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    """A page of files."""
    page = services.files.list(purpose=purpose, limit=limit, order=order, after=after)
    return JsonReply(listing([file_object(record) for record in page.items], has_more=page.has_more, cursors=True))


@router.get("/{file_id}")
def retrieve_file(file_id: str, services: Injected) -> Response:
    """One file's object."""
    return JsonReply(file_object(_required(services, file_id)))


@router.delete("/{file_id}")
def delete_file(file_id: str, services: Injected) -> Response:
    """Delete a file. Jobs that use it keep their snapshot of its bytes."""
    _required(services, file_id)
    if not services.files.delete(file_id):
        raise NotFound(f"No such File object: {file_id}", param="id")
    return JsonReply({"id": file_id, "object": "file", "deleted": True})


@router.get("/{file_id}/content")
def file_content(file_id: str, request: Request, services: Injected, format: Annotated[Literal["csv"] | None, Query()] = None) -> Response:
    """A file's bytes. Metrics of a job come base64-encoded, as upstream's do, unless plain CSV is asked for."""
    record = _required(services, file_id)
    path = services.blobs.path(record.sha256)
    if not path.is_file():
        _LOG.error("the bytes of %s are missing: %s", record.id, path)
        raise LuthierError("The bytes of this file are missing.")
    if record.purpose != _RESULTS:
        return FileResponse(path, media_type="application/octet-stream", filename=record.filename)
    if format == "csv" or "text/csv" in request.headers.get("accept", "").lower():
        return FileResponse(path, media_type="text/csv; charset=utf-8", filename=record.filename)
    headers = {"content-disposition": f"attachment; filename*=utf-8''{quote(record.filename, safe='')}"}
    return StreamingResponse(_base64_of(path), media_type="application/octet-stream", headers=headers)


def _base64_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_BASE64_BYTES):
            yield base64.b64encode(piece)
