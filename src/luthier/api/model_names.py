"""From a name in a request to the model that answers to it.

What it does: exact names first, then OpenAI's base names, which stand for the configured default base. What it does not:
load anything. Called by the routes that take a ``model``.
"""

import hashlib
from dataclasses import dataclass

from luthier import __version__
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.generation import ModelTarget
from luthier.core.jobs import ModelKind, ModelRecord
from luthier.core.model_names import base_of
from luthier.core.settings import OPENAI_BASE_NAMES, OPENAI_SNAPSHOTS, Settings
from luthier.core.targets import model_target
from luthier.storage.models import ModelStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model that a request named."""

    name: str
    """The name that answers show: the dated snapshot for an undated OpenAI name."""
    record: ModelRecord
    target: ModelTarget

    @property
    def fingerprint(self) -> str:
        """``system_fingerprint``: changes with the weights and with the program."""
        text = f"{__version__}:{self.record.name}:{self.record.sha256}"
        return "fp_" + hashlib.sha256(text.encode()).hexdigest()[:10]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainableModel:
    """What a job's ``model`` stands for."""

    model: str
    """``Job.model``: the base name as asked, the dated snapshot for an undated OpenAI name."""
    base: str
    """Name of the open base that trains."""
    parent_model: str | None
    """The tuned model whose tuning is continued."""


def unknown_model(name: str) -> NotFound:
    """OpenAI's words for a model that is not there."""
    return NotFound(f"The model `{name}` does not exist or you do not have access to it.", code="model_not_found", param="model")


def shown_name(name: str) -> str:
    """An undated OpenAI name as its dated snapshot; any other name as it is."""
    return OPENAI_SNAPSHOTS.get(name, name)


def find_record(models: ModelStore, settings: Settings, name: str) -> ModelRecord:
    """The record that answers to ``name``.

    Raises:
        NotFound: nothing does.
    """
    record = models.get(name)
    if record is None and name in OPENAI_BASE_NAMES:
        record = models.get(settings.default_base)
    if record is None:
        raise unknown_model(name)
    return record


def find_served(models: ModelStore, settings: Settings, name: str) -> ServedModel:
    """The model that answers to ``name``, ready to be asked of the engine.

    Raises:
        NotFound: nothing does, or the base under it is gone.
    """
    record = find_record(models, settings, name)
    base = models.get(record.base)
    if base is None:
        raise unknown_model(name)
    own = record.name == name
    return ServedModel(name=name if own else shown_name(name), record=record, target=model_target(record, base, settings))


def find_trainable(models: ModelStore, settings: Settings, name: str) -> TrainableModel:
    """What training under ``name`` means.

    Raises:
        InvalidRequest: OpenAI's ``model_not_available``.
    """
    try:
        record = find_record(models, settings, name)
    except NotFound as error:
        raise _not_available(name) from error
    if models.get(record.base) is None:
        raise _not_available(name)
    if record.kind is ModelKind.BASE:
        return TrainableModel(model=name if record.name == name else shown_name(name), base=record.name, parent_model=None)
    asked = base_of(name)
    return TrainableModel(model=record.base if asked == name else asked, base=record.base, parent_model=name)


def _not_available(name: str) -> InvalidRequest:
    message = f"Model {name} is not available for fine-tuning or does not exist."
    return InvalidRequest(message, code="model_not_available", param="model")
