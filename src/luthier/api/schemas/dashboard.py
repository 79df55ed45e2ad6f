"""Bodies that the dashboard's own endpoints read."""

from typing import Annotated

from pydantic import Field

from luthier.api.schemas.fields import WireModel


class CancelJobsRequest(WireModel):
    """Cancel several jobs."""

    ids: Annotated[list[Annotated[str, Field(min_length=1, max_length=128)]], Field(min_length=1, max_length=1000)]
