"""``/batches``: create, list, retrieve, cancel (reference, section 4.7). ``batches/runner.py`` does the work."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from luthier.api.batches.wire import batch_object
from luthier.api.bodies import json_body
from luthier.api.deps import Calling, Injected, Services
from luthier.api.replies import JsonReply, listing
from luthier.api.routes.fine_tuning import After
from luthier.api.schemas.batches import BatchCreateRequest
from luthier.core.batches import FILE_SECONDS, WINDOW_SECONDS, BatchRecord, BatchStatus
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.ids import new_batch_id

router = APIRouter(prefix="/batches")


def _required(services: Services, batch_id: str) -> BatchRecord:
    record = services.batches.get(batch_id)
    if record is None:
        raise NotFound(f"No batch found with id '{batch_id}'.", param="id")
    return record


def _shown(services: Services, record: BatchRecord) -> dict[str, Any]:
    return batch_object(record, strict=services.settings.spec_strict)


@router.post("")
def create_batch(
    body: Annotated[BatchCreateRequest, Depends(json_body(BatchCreateRequest))], caller: Calling, services: Injected
) -> Response:
    """Begin a batch over a file of requests; the file is checked first, in the background."""
    file = services.files.get(body.input_file_id)
    if file is None:
        raise NotFound(f"No such File object: {body.input_file_id}", param="input_file_id")
    if file.purpose != "batch":
        message = (
            f"Invalid purpose for file {file.id}: the input file of a batch must have the purpose 'batch', but it has '{file.purpose}'."
        )
        raise InvalidRequest(message, code="invalid_value", param="input_file_id")
    now = int(services.clock())
    record = BatchRecord(
        id=new_batch_id(),
        project_id=caller.project_id,
        endpoint=body.endpoint,
        input_file_id=file.id,
        input_sha256=file.sha256,
        created_at=now,
        expires_at=now + WINDOW_SECONDS,
        metadata=body.metadata,
        file_seconds=FILE_SECONDS if body.output_expires_after is None else body.output_expires_after.seconds,
    )
    services.batches.add(record)
    return JsonReply(_shown(services, record))


@router.get("")
def list_batches(services: Injected, limit: Annotated[int, Query(ge=1, le=100)] = 20, after: After = None) -> Response:
    """A page of batches, newest first."""
    page = services.batches.list(limit=limit, after=after)
    return JsonReply(listing([_shown(services, record) for record in page.items], has_more=page.has_more, cursors=True))


@router.get("/{batch_id}")
def retrieve_batch(batch_id: str, services: Injected) -> Response:
    """One batch."""
    return JsonReply(_shown(services, _required(services, batch_id)))


@router.post("/{batch_id}/cancel")
def cancel_batch(batch_id: str, services: Injected) -> Response:
    """Stop a batch: requests under way end, the rest is not run. Asked again while it stops, nothing changes."""
    before = _required(services, batch_id)
    after = services.batches.move(batch_id, BatchStatus.CANCELLING, int(services.clock()))
    if after is None or after.status not in (BatchStatus.CANCELLING, BatchStatus.CANCELLED):
        status = before.status if after is None else after.status
        raise InvalidRequest(f"Cannot cancel a batch with status '{status}'.")
    return JsonReply(_shown(services, after))
