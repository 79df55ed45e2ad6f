"""Bodies of ``/uploads`` and the expiry that files and uploads share (reference, sections 1.2 and 1.3)."""

from typing import Annotated, Literal

from pydantic import Field

from luthier.api.schemas.fields import WireModel
from luthier.core.uploads import MAX_PARTS


class ExpiresAfter(WireModel):
    """When a file expires, counted from its creation."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2592000)]


class Expiry(WireModel):
    """The one field of a file's form that has an inside."""

    expires_after: ExpiresAfter | None = None


class UploadCreateRequest(WireModel):
    """A new upload. Its size limit is a setting; any media type is taken, because the bytes themselves are checked."""

    filename: Annotated[str, Field(min_length=1, max_length=255)]
    purpose: Literal["assistants", "batch", "fine-tune", "vision"]
    bytes: Annotated[int, Field(ge=1)]
    mime_type: Annotated[str, Field(min_length=1, max_length=255)]
    expires_after: ExpiresAfter | None = None


class UploadCompleteRequest(WireModel):
    """The order of the parts, and what the whole should be."""

    part_ids: Annotated[list[Annotated[str, Field(max_length=128)]], Field(min_length=1, max_length=MAX_PARTS)]
    md5: Annotated[str, Field(max_length=128)] | None = None
