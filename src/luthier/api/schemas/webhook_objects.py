"""What answers about webhooks hold, for the OpenAPI document: see ``objects.py``. Called by ``openapi.py``."""

from typing import Literal

from luthier.api.schemas.objects import Shape, Unix


class EventTypeList(Shape):
    """Types of events."""

    object: Literal["list"]
    data: list[str]


class Endpoint(Shape):
    """An address that is told of events; its secret shows only in the answers that made it."""

    id: str
    object: Literal["webhook_endpoint"]
    created_at: Unix
    updated_at: Unix
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str


class NewEndpoint(Endpoint):
    """An endpoint with the secret that was just made."""

    signing_secret: str


class EndpointTest(Shape):
    """A delivered sample event."""

    object: Literal["webhook_endpoint.test"]
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True]
