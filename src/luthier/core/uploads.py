"""Uploads in parts: the records the office keeps of them. Frozen; ``storage/uploads.py`` reads and writes them."""

from dataclasses import dataclass
from enum import StrEnum

LIFETIME_SECONDS = 3600
"""How long an upload takes parts, seconds from its creation."""
MAX_PARTS = 10_000
"""Most parts of one upload."""


class UploadStatus(StrEnum):
    """Where an upload is. Only a pending one changes."""

    PENDING = "pending"
    """It takes parts."""
    COMPLETED = "completed"
    """Its file exists."""
    CANCELLED = "cancelled"
    """Ended on request; its parts are gone."""
    EXPIRED = "expired"
    """Its time ran out before it was completed. Never stored: it follows from ``expires_at`` and the clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRecord:
    """An upload as it stands at the moment it was read."""

    id: str
    filename: str
    purpose: str
    bytes: int
    """Size that the whole file will have, as promised at the creation."""
    mime_type: str
    created_at: int
    expires_at: int
    file_expires_after: int | None = None
    """Seconds from the file's creation to its expiry, when the caller named them."""
    status: UploadStatus = UploadStatus.PENDING
    part_ids: tuple[str, ...] | None = None
    """The order of the parts, once completed."""
    md5: str | None = None
    """Checksum of the file's bytes, once completed."""
    file_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRecord:
    """One part; its bytes lie in ``storage/parts.py`` under its id."""

    id: str
    upload_id: str
    bytes: int
    created_at: int
