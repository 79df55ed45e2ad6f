"""What webhooks look like on the wire: endpoint objects, event bodies, signed headers (reference, section 6).

What it does: renders, and signs the very bytes that are sent, as Standard Webhooks and the official client's check say.
What it does not: send. Called by ``routes/webhooks.py``, ``sender.py`` and tests.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import orjson

from luthier.core.webhooks import WebhookEndpoint, WebhookEvent

USER_AGENT = "OpenAI/1.0"
SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets begin with, not one


def endpoint_object(endpoint: WebhookEndpoint, *, with_secret: bool = False) -> dict[str, Any]:
    """OpenAI's object; ``with_secret`` only in the answers that made the secret."""
    shown: dict[str, Any] = {
        "id": endpoint.id,
        "object": "webhook_endpoint",
        "created_at": endpoint.created_at,
        "updated_at": endpoint.updated_at,
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": list(endpoint.event_types),
        "signing_secret_hint": f"{SECRET_PREFIX}...{endpoint.secret[-4:]}",
    }
    return {**shown, "signing_secret": endpoint.secret} if with_secret else shown


def event_body(event: WebhookEvent) -> bytes:
    """The body: the same bytes in every attempt."""
    data = {"id": event.object_id}
    return orjson.dumps({"object": "event", "id": event.id, "type": event.type, "created_at": event.created_at, "data": data})


def signature(secret: str, webhook_id: str, timestamp: int, body: bytes) -> str:
    """One ``v1,...`` signature over id, timestamp and body."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    digest = hmac.new(key, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode("ascii")


def signed_headers(secrets: Sequence[str], webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """All headers of a delivery but those of the connection; a signature for each secret, any of which may match."""
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signature(secret, webhook_id, timestamp, body) for secret in secrets),
    }
