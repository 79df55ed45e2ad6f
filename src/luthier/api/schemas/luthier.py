"""Bodies of our own endpoints under ``/v1/luthier``."""

from typing import Annotated

from pydantic import Field

from luthier.api.schemas.chat import Messages
from luthier.api.schemas.fields import Metadata, ModelName, WireModel


class RenderRequest(WireModel):
    """Show how a conversation becomes tokens."""

    model: ModelName
    messages: Messages
    add_generation_prompt: bool = True


class AliasCreateRequest(WireModel):
    """Make an alias."""

    name: ModelName
    target: ModelName


class AliasMoveRequest(WireModel):
    """Let an alias stand for another model."""

    target: ModelName


class FromCompletionsRequest(WireModel):
    """Make a training file of stored chat completions."""

    metadata: Metadata | None = None
    model: ModelName | None = None
    after: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    limit: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Most completions that are read; None: all."""
    filename: Annotated[str, Field(min_length=1, max_length=255)] | None = None
