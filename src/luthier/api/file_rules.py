"""What holds for a file however it was sent: in one request or in parts (reference, sections 1.2 and 1.3).

What it does: the rules on names, sizes and expiry by purpose, and a new file's record. What it does not: read bytes
(``upload.py``, ``assembly.py``). Called by those two and the routes.
"""

from luthier.core.errors import InvalidRequest
from luthier.core.ids import new_file_id
from luthier.core.jobs import FileRecord

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
CHECKED_PURPOSE = "fine-tune"
"""Files of this purpose are checked line by line while they come."""

_MAX_BATCH_BYTES = 200 * 1024 * 1024
_BATCH_LIFETIME_SECONDS = 30 * 24 * 3600
_APIS_OF_JSONL = {"fine-tune": "Fine-Tuning", "batch": "Batch"}


def largest(purpose: str, max_bytes: int) -> int:
    """Most bytes that a file of this purpose may have, where ``max_bytes`` holds for all."""
    return min(max_bytes, _MAX_BATCH_BYTES) if purpose == "batch" else max_bytes


def check_size(num_bytes: int, limit: int, param: str) -> None:
    """Raises InvalidRequest (413) when a file or part is larger than ``limit``."""
    if num_bytes > limit:
        raise InvalidRequest(f"File is too large. The maximum is {limit} bytes.", code="request_too_large", param=param)


def check_filename(filename: str, purpose: str, param: str) -> None:
    """Fine-tuning and batch files must end in ``.jsonl``.

    A name without any extension passes: client libraries send ``upload`` when their caller names nothing.

    Raises:
        InvalidRequest: another extension.
    """
    api = _APIS_OF_JSONL.get(purpose)
    name = filename.rsplit("/", 1)[-1].lower()
    if api is not None and "." in name and not name.endswith(".jsonl"):
        raise InvalidRequest(f"Invalid file format for {api} API. Must be .jsonl", param=param)


def new_file(filename: str, purpose: str, expires_after: int | None, *, sha256: str, num_bytes: int, now: int) -> FileRecord:
    """The record of a file whose bytes are durable; a batch file expires after 30 days unless told otherwise."""
    if expires_after is None and purpose == "batch":
        expires_after = _BATCH_LIFETIME_SECONDS
    return FileRecord(
        id=new_file_id(),
        filename=filename,
        purpose=purpose,
        bytes=num_bytes,
        sha256=sha256,
        created_at=now,
        expires_at=None if expires_after is None else now + expires_after,
    )
