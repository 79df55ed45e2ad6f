"""Bodies of ``/webhook_endpoints`` (reference, section 6). Addresses are checked in ``webhooks/addresses.py``."""

from typing import Annotated

from pydantic import AfterValidator, Field

from luthier.api.schemas.fields import WireModel, refusal
from luthier.core.webhooks import EVENT_TYPES


def _check_type(name: str) -> str:
    if name not in EVENT_TYPES:
        *first, last = (f"'{known}'" for known in EVENT_TYPES)
        message = f"Invalid value: {name[:100]!r}. Supported values are: {', '.join(first)} and {last}."
        raise refusal("invalid_value", message)
    return name


EventType = Annotated[str, AfterValidator(_check_type), Field(json_schema_extra={"enum": list(EVENT_TYPES)})]
EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=100)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Url = Annotated[str, Field(min_length=1, max_length=2048)]


class EndpointCreateRequest(WireModel):
    """A new endpoint."""

    name: Name
    url: Url
    event_types: EventTypes


class EndpointUpdateRequest(WireModel):
    """What is left out stays as it is."""

    name: Name | None = None
    url: Url | None = None
    event_types: EventTypes | None = None


class SecretRotationRequest(WireModel):
    """A new secret."""

    keep_old_secret_active_for_24_hours: bool | None = None


class EndpointTestRequest(WireModel):
    """A sample event."""

    event_type: EventType
