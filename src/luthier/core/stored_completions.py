"""Chat completions that were kept with ``store: true``. Shared by ``api`` and ``storage``."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCompletion:
    """An answer with what was asked."""

    id: str
    created_at: int
    """Unix seconds."""
    model: str
    """The name that the answer shows."""
    completion: dict[str, Any]
    """The ``chat.completion`` object, without its metadata."""
    messages: tuple[dict[str, Any], ...]
    """The input messages as they were sent."""
    tools: tuple[dict[str, Any], ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
