"""What the office keeps of webhooks: the endpoints to tell, and the deliveries that are still owed to them."""

from dataclasses import dataclass

from luthier.core.batches import BatchStatus
from luthier.core.jobs import JobStatus

JOB_EVENT_TYPES = {
    JobStatus.SUCCEEDED: "fine_tuning.job.succeeded",
    JobStatus.FAILED: "fine_tuning.job.failed",
    JobStatus.CANCELLED: "fine_tuning.job.cancelled",
}
"""The event that each final status of a fine-tuning job causes."""

BATCH_EVENT_TYPES = {
    BatchStatus.COMPLETED: "batch.completed",
    BatchStatus.FAILED: "batch.failed",
    BatchStatus.EXPIRED: "batch.expired",
    BatchStatus.CANCELLED: "batch.cancelled",
}
"""The event that each final status of a batch causes."""

EVENT_TYPES = (*JOB_EVENT_TYPES.values(), *BATCH_EVENT_TYPES.values())
"""Every type of event that this server sends."""

MAX_ENDPOINTS = 100
"""Most endpoints of one server. Delivery has a slot for each, so that none ever waits for another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OldSecret:
    """A secret that was rotated away and still signs for a while."""

    secret: str
    expires_at: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEndpoint:
    """An address that wants to hear of events."""

    id: str
    created_at: int
    updated_at: int
    """Unix seconds of the last change of name, address, types or secret."""
    name: str
    url: str
    event_types: tuple[str, ...]
    secret: str
    """``whsec_`` and base64; what signs."""
    old_secrets: tuple[OldSecret, ...] = ()

    def signing_secrets(self, now: float) -> tuple[str, ...]:
        """Every secret that is good now, the newest first."""
        return (self.secret, *(old.secret for old in self.old_secrets if old.expires_at > now))


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEvent:
    """Something that happened to an object."""

    id: str
    type: str
    created_at: int
    object_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDelivery:
    """One event on its way to one endpoint."""

    id: str
    """The ``webhook-id`` header: the same in every attempt, so that a receiver can drop a repetition."""
    event: WebhookEvent
    attempts: int
    """Attempts so far, this one included. It is also the number of the lease: an outcome is noted under it or not at all."""
