"""What answers about keys and projects hold, for the OpenAPI document; see ``objects.py``."""

from typing import Literal

from luthier.api.schemas.objects import Shape, Unix


class KeyLimits(Shape):
    """A key's own limits. Null: the server's setting; 0: no limit."""

    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrent_generations: int | None
    jobs_per_day: int | None


class Key(Shape):
    """An API key, without the key itself."""

    id: str
    object: Literal["luthier.api_key"]
    name: str
    role: Literal["read-only", "member", "admin"]
    project_id: str
    redacted_value: str
    created_at: Unix | None
    created_by: str | None
    revoked_at: Unix | None
    limits: KeyLimits


class NewKey(Key):
    """A key that was just made; it is shown this once."""

    value: str


class Project(Shape):
    """Whose things are kept apart from everybody else's."""

    id: str
    object: Literal["luthier.project"]
    name: str
    created_at: Unix
