"""From a model's record to what the engine host loads. Pure; called by api and worker, so that both serve the same thing."""

from luthier.core.generation import ModelTarget
from luthier.core.jobs import ModelKind, ModelRecord
from luthier.core.settings import Settings


def model_target(record: ModelRecord, base: ModelRecord, settings: Settings) -> ModelTarget:
    """The target of ``record``; ``base`` is the record of ``record.base`` (the record itself for a base)."""
    own_path = str(settings.resolve_model_path(record.path))
    is_adapter = record.kind is ModelKind.ADAPTER
    return ModelTarget(
        name=record.name,
        base_path=str(settings.resolve_model_path(base.path)) if is_adapter else own_path,
        adapter_path=own_path if is_adapter else None,
        row_format=record.row_format,
        revision=record.sha256,
    )
