"""From a name in a request to the model that answers to it.

What it does: exact names first, then aliases (those made over the API before the operator's own), then OpenAI's base names,
which stand for the configured default base. What it does not: load anything, change aliases. Called by the routes that take a
``model``: the one place where a name is resolved.
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
    """The name that answers show: the one asked for, the dated snapshot for an undated OpenAI name."""
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
    """``Job.model`` and the base in the ``ft:`` name: as asked, the dated snapshot for an undated OpenAI name."""
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


def alias_target(models: ModelStore, settings: Settings, name: str) -> str | None:
    """The model's name that the alias ``name`` stands for; None when it is no alias."""
    return models.alias_target(name) or settings.aliases.get(name)


def stands_for(models: ModelStore, settings: Settings, name: str) -> str | None:
    """What a name that is no model's own stands for: an alias's target, or the default base for an OpenAI name; else None.

    An undated OpenAI name follows an alias of its dated snapshot, because the snapshot is the name that answers show.
    """
    target = alias_target(models, settings, name)
    if target is None and name in OPENAI_SNAPSHOTS:
        target = alias_target(models, settings, OPENAI_SNAPSHOTS[name])
    return settings.default_base if target is None and name in OPENAI_BASE_NAMES else target


def find_record(models: ModelStore, settings: Settings, name: str) -> ModelRecord:
    """The record that answers to ``name``.

    Raises:
        NotFound: nothing does.
    """
    record = models.get(name)
    if record is None:
        # One step only: a target is a model's own name, never another alias.
        target = stands_for(models, settings, name)
        record = models.get(target) if target is not None else None
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
    # Permission to use another project's model is none to take its weights further.
    if models.get(record.base) is None or not (record.kind is ModelKind.BASE or models.is_own(record.name)):
        raise _not_available(name)
    parent = None if record.kind is ModelKind.BASE else record.name
    return TrainableModel(model=_asked_base(name, record), base=record.base, parent_model=parent)


def _asked_base(name: str, record: ModelRecord) -> str:
    """The base name that a job under ``name`` shows: libraries read features and prices from it, so the asked name is kept.

    An ``ft:`` name is asked for by the base inside it. Other names with colons would make an ``ft:`` name that no client can
    take apart, so the model's own base name stands in for them.
    """
    if name != record.name and ":" not in name:
        return shown_name(name)
    for candidate in (name, record.name):
        if base_of(candidate) != candidate:
            return base_of(candidate)
    return record.base


def _not_available(name: str) -> InvalidRequest:
    message = f"Model {name} is not available for fine-tuning or does not exist."
    return InvalidRequest(message, code="model_not_available", param="model")
