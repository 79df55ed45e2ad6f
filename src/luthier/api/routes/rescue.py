"""``/luthier/files/from_completions``: what was captured becomes a training file. OpenAI has no such call."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from luthier.api.bodies import json_body
from luthier.api.deps import Injected, Services
from luthier.api.mapping import file_object
from luthier.api.model_names import shown_name
from luthier.api.replies import JsonReply
from luthier.api.schemas.luthier import FromCompletionsRequest
from luthier.api.stored import training_rows
from luthier.core.errors import InvalidRequest
from luthier.core.ids import new_file_id
from luthier.core.jobs import FileRecord
from luthier.core.stored_completions import StoredCompletion

router = APIRouter(prefix="/luthier/files")
_PAGE = 200
_FILENAME = "stored-completions.jsonl"


def _matching(services: Services, body: FromCompletionsRequest) -> Iterator[StoredCompletion]:
    """The completions asked for, oldest first, a page in memory at a time."""
    after, left = body.after, body.limit
    model = None if body.model is None else shown_name(body.model)
    while left is None or left > 0:
        limit = _PAGE if left is None else min(_PAGE, left)
        page = services.stored_completions.list(model=model, metadata=body.metadata, limit=limit, after=after)
        yield from page.items
        if not page.has_more:
            return
        after = page.items[-1].id
        left = None if left is None else left - len(page.items)


def _nothing(num_read: int) -> InvalidRequest:
    if not num_read:
        return InvalidRequest("No stored chat completion matches. Completions are kept when they are created with 'store': true.")
    return InvalidRequest(
        f"None of the {num_read} stored chat completions that match can be trained on: their answers are empty, were cut off, or follow "
        "tool calls without results."
    )


@router.post("/from_completions")
def create_file_from_completions(
    body: Annotated[FromCompletionsRequest, Depends(json_body(FromCompletionsRequest))], services: Injected
) -> Response:
    """Make a fine-tuning file of stored chat completions; each complete answer is one row."""
    num_read = num_rows = num_left_out = size = 0
    settings = services.settings
    with services.blobs.writer() as blob:
        for record in _matching(services, body):
            num_read += 1
            lines, left_out = training_rows(record)
            fitting = [line for line in lines if len(line) <= settings.max_line_bytes]
            num_rows += len(fitting)
            num_left_out += left_out + len(lines) - len(fitting)
            size += sum(len(line) for line in fitting)
            if size > settings.max_file_bytes:
                message = f"The file would be larger than the maximum of {settings.max_file_bytes} bytes. Ask for fewer with 'limit'."
                raise InvalidRequest(message, param="limit")
            blob.write(b"".join(fitting))
        if not num_rows:
            raise _nothing(num_read)
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
    return JsonReply({**file_object(record), "luthier": {"rows": num_rows, "left_out": num_left_out}})
