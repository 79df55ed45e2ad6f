"""Body of ``/batches`` (reference, section 4.7)."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from luthier.api.schemas.fields import Metadata, WireModel, refusal
from luthier.api.schemas.uploads import ExpiresAfter

ENDPOINTS = ("/v1/responses", "/v1/chat/completions", "/v1/completions")
"""Routes that a batch may ask."""
_UPSTREAM_ONLY = (
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/videos",
)


def _check_endpoint(endpoint: str) -> str:
    *first, last = (f"'{known}'" for known in ENDPOINTS)
    supported = f"Supported values are: {', '.join(first)}, and {last}."
    if endpoint in _UPSTREAM_ONLY:
        message = f"Unsupported value: 'endpoint' does not support '{endpoint}' with this server. {supported}"
        raise refusal("unsupported_value", message)
    if endpoint not in ENDPOINTS:
        raise refusal("invalid_value", f"Invalid value: '{endpoint[:100]}'. {supported}")
    return endpoint


class BatchCreateRequest(WireModel):
    """A new batch."""

    input_file_id: Annotated[str, Field(min_length=1, max_length=128)]
    endpoint: Annotated[str, AfterValidator(_check_endpoint), WithJsonSchema({"type": "string", "enum": list(ENDPOINTS)})]
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None
