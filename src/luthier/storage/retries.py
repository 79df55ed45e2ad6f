"""Creations of jobs and dataset tasks that may be sent twice: the client's key, or a retry whose first answer was lost.

What it does: remembers each creation and finds what a repeated one means. What it does not: create anything. Called by
``storage/jobs.py`` and ``storage/dataset_tasks.py`` inside their transactions.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from luthier.core.errors import InvalidRequest, TooManyRequests
from luthier.storage import schema

KEY_SECONDS = 24 * 3600.0
"""How long an ``Idempotency-Key`` is remembered, seconds."""
DAY_SECONDS = KEY_SECONDS
"""What a day is to the limit of jobs per day: the 24 hours before a creation. Creations are kept as long."""
RETRY_SECONDS = 12 * 60.0
"""A retry comes at most this much later than the attempt it repeats: the client's 10-minute time-out and 2 more."""

_ROWS = schema.creations


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryMark:
    """What a creation's request told about being a repetition."""

    api_key_id: str
    body_sha256: str
    """Hash over method, path and body."""
    retry_count: int
    """The client's ``x-stainless-retry-count``; 0 for a first attempt."""
    received_at: float
    """Unix seconds."""
    idempotency_key: str | None = None


def find_twin(connection: Connection, mark: RetryMark, rows: Table = _ROWS) -> str | None:
    """The id of what this creation repeats, or None for a new one.

    With an idempotency key: what was made with that key within 24 hours. Without: for a retry, what was made from the same
    key and body by an attempt with a lower count, which is then consumed, so that each chain of retries finds its own.

    Args:
        rows: the creations to look among: those of jobs, or of dataset tasks.

    Raises:
        InvalidRequest: the idempotency key was used with another body (code ``idempotency_key_reused``).
    """
    own = rows.c.api_key_id == mark.api_key_id
    if mark.idempotency_key is not None:
        query = select(rows.c.made_id, rows.c.body_sha256).where(own, rows.c.idempotency_key == mark.idempotency_key)
        row = connection.execute(
            query.where(rows.c.received_at > mark.received_at - KEY_SECONDS).order_by(rows.c.seq).limit(1)
        ).one_or_none()
        if row is None:
            return None
        if row.body_sha256 != mark.body_sha256:
            raise InvalidRequest("The Idempotency-Key was already used with another request body.", code="idempotency_key_reused")
        return row.made_id
    if mark.retry_count < 1:
        return None
    query = (
        select(rows.c.seq, rows.c.made_id)
        .where(own, rows.c.body_sha256 == mark.body_sha256, rows.c.idempotency_key.is_(None))
        .where(rows.c.retry_count < mark.retry_count, rows.c.consumed.is_(False))
        .where(rows.c.received_at > mark.received_at - RETRY_SECONDS)
        # The attempt just before this one in the chain if it arrived; among equals the newest, whose answer is the likeliest lost.
        .order_by(rows.c.retry_count.desc(), rows.c.seq.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    connection.execute(update(rows).where(rows.c.seq == row.seq).values(consumed=True))
    return row.made_id


def check_daily(connection: Connection, mark: RetryMark, limit: int, model: str) -> None:
    """Refuse a creation when the key has made as many jobs as it may in the 24 hours before.

    Raises:
        TooManyRequests: in OpenAI's words; a client's library should not repeat it.
    """
    made = (_ROWS.c.api_key_id == mark.api_key_id, _ROWS.c.received_at > mark.received_at - DAY_SECONDS)
    # A job that was asked for again has several rows. Its first one tells when it was made.
    times = select(func.min(_ROWS.c.received_at)).where(*made).group_by(_ROWS.c.made_id).order_by(func.min(_ROWS.c.received_at))
    created = connection.execute(times).scalars().all()
    if len(created) < limit:
        return
    message = (
        "This fine-tune request has been rate-limited. Your API key has reached the maximum of "
        f"{limit} fine-tuning requests per day for the model '{model}' and all others together."
    )
    free_at = created[len(created) - limit] + DAY_SECONDS
    raise TooManyRequests(
        message, code="daily_rate_limit_exceeded", limited="invalid_request_error", retry_after=free_at - mark.received_at, pointless=True
    )


def remember(connection: Connection, mark: RetryMark, made_id: str, rows: Table = _ROWS) -> None:
    """Note that this creation was answered with that job or task; forgets creations older than a day."""
    connection.execute(delete(rows).where(rows.c.received_at < mark.received_at - KEY_SECONDS))
    connection.execute(
        insert(rows).values(
            made_id=made_id,
            api_key_id=mark.api_key_id,
            body_sha256=mark.body_sha256,
            retry_count=mark.retry_count,
            received_at=mark.received_at,
            idempotency_key=mark.idempotency_key,
            consumed=False,
        )
    )
