"""What answers about batches hold, for the OpenAPI document; see ``objects.py``."""

from typing import Literal

from luthier.api.schemas.objects import Shape, Unix


class BatchFault(Shape):
    """What is wrong with a line of the input file, or with the file."""

    code: str
    message: str
    param: str | None
    line: int | None


class BatchFaults(Shape):
    """Every fault of the input file, the first hundred of them."""

    object: Literal["list"]
    data: list[BatchFault]


class BatchCounts(Shape):
    """How far a batch is."""

    total: int
    completed: int
    failed: int


class CachedTokens(Shape):
    """Nothing is cached."""

    cached_tokens: int


class ReasoningTokens(Shape):
    """Nothing is reasoned."""

    reasoning_tokens: int


class BatchUsage(Shape):
    """Tokens of all answers."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class Batch(Shape):
    """A file of requests that is answered in the background."""

    id: str
    object: Literal["batch"]
    endpoint: str
    model: str | None = None
    errors: BatchFaults | None = None
    input_file_id: str
    completion_window: Literal["24h"]
    status: Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: Unix
    in_progress_at: Unix | None = None
    expires_at: Unix
    finalizing_at: Unix | None = None
    completed_at: Unix | None = None
    failed_at: Unix | None = None
    expired_at: Unix | None = None
    cancelling_at: Unix | None = None
    cancelled_at: Unix | None = None
    request_counts: BatchCounts
    usage: BatchUsage
    metadata: dict[str, str] | None
