"""Bodies of our own endpoints under ``/v1/luthier``."""

from luthier.api.schemas.chat import Messages
from luthier.api.schemas.fields import ModelName, WireModel


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
