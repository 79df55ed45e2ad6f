"""Bodies of ``/luthier/keys`` and ``/luthier/projects``."""

from typing import Annotated, Literal

from pydantic import Field

from luthier.api.schemas.fields import WireModel
from luthier.core.keys import DEFAULT_PROJECT

Name = Annotated[str, Field(min_length=1, max_length=256)]
Limit = Annotated[int, Field(ge=0, le=1_000_000_000)]


class KeyLimits(WireModel):
    """A key's own limits: a number, 0 for no limit, null for the server's setting."""

    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    concurrent_generations: Limit | None = None
    jobs_per_day: Limit | None = None


class KeyCreateRequest(WireModel):
    """A new key."""

    name: Name
    role: Literal["admin", "member", "read-only"] = "member"
    project_id: Annotated[str, Field(min_length=1, max_length=128)] = DEFAULT_PROJECT
    limits: KeyLimits = KeyLimits()


class KeyUpdateRequest(WireModel):
    """What is left out stays as it is."""

    name: Name | None = None
    limits: KeyLimits = KeyLimits()


class ProjectCreateRequest(WireModel):
    """A new project."""

    name: Name
