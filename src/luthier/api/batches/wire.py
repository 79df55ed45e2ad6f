"""The ``batch`` object. Called by ``routes/batches.py``."""

from typing import Any

from luthier.core.batches import BatchRecord

_TIMES = (
    "in_progress_at",
    "expires_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)


def batch_object(record: BatchRecord, *, strict: bool) -> dict[str, Any]:
    """The object as clients see it.

    Args:
        record: the batch.
        strict: leave out what is not known yet, as OpenAI's schema wants it, where OpenAI itself answers with null (decision D1).
    """
    shown = _shown(record)
    return {name: value for name, value in shown.items() if value is not None or name == "metadata"} if strict else shown


def _shown(record: BatchRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "object": "batch",
        "endpoint": record.endpoint,
        "model": record.model,
        "errors": {"object": "list", "data": [dict(error) for error in record.errors]} if record.errors else None,
        "input_file_id": record.input_file_id,
        "completion_window": "24h",
        "status": record.status.value,
        "output_file_id": record.output_file_id,
        "error_file_id": record.error_file_id,
        "created_at": record.created_at,
        **{name: getattr(record, name) for name in _TIMES},
        "request_counts": {"total": record.num_total, "completed": record.num_completed, "failed": record.num_failed},
        "usage": {
            "input_tokens": record.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": record.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": record.input_tokens + record.output_tokens,
        },
        "metadata": record.metadata,
    }
