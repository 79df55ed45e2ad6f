"""``/luthier/files/from_completions``: what was captured becomes a training file. OpenAI has no such call."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from luthier.api.bodies import json_body
from luthier.api.captured import Captured, CompletionFilter, captured_rows
from luthier.api.deps import Injected
from luthier.api.mapping import file_object
from luthier.api.replies import JsonReply
from luthier.api.schemas.luthier import FromCompletionsRequest
from luthier.core.errors import InvalidRequest
from luthier.core.ids import new_file_id
from luthier.core.jobs import FileRecord

router = APIRouter(prefix="/luthier/files")
_FILENAME = "stored-completions.jsonl"


@router.post("/from_completions")
def create_file_from_completions(
    body: Annotated[FromCompletionsRequest, Depends(json_body(FromCompletionsRequest))], services: Injected
) -> Response:
    """Make a fine-tuning file of stored chat completions; each complete answer is one row."""
    settings, counts = services.settings, Captured()
    wanted = CompletionFilter(model=body.model, metadata=body.metadata, after=body.after, limit=body.limit)
    with services.blobs.writer() as blob:
        for _, lines in captured_rows(services.stored_completions, wanted, counts, max_line_bytes=settings.max_line_bytes):
            if counts.num_bytes > settings.max_file_bytes:
                message = f"The file would be larger than the maximum of {settings.max_file_bytes} bytes. Ask for fewer with 'limit'."
                raise InvalidRequest(message, param="limit")
            blob.write(b"".join(lines))
        sha256, size = blob.commit()
    record = FileRecord(
        id=new_file_id(),
        filename=body.filename or _FILENAME,
        purpose="fine-tune",
        bytes=size,
        sha256=sha256,
        created_at=int(services.clock()),
    )
    services.files.add(record)
    return JsonReply({**file_object(record), "luthier": {"rows": counts.num_rows, "left_out": counts.num_left_out}})
