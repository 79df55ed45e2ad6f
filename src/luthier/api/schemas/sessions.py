"""Bodies of the dashboard's own paths."""

from typing import Annotated

from pydantic import Field

from luthier.api.schemas.fields import WireModel


class LoginRequest(WireModel):
    """Exchange an API key for a session's cookie."""

    api_key: Annotated[str, Field(min_length=1, max_length=512)]
