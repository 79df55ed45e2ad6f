"""Models and aliases as JSON (reference, section 4.1). Pure.

What it does: the ``model`` object with our one extra field ``luthier``, which names the open base, its revision and its licence, and of
a base itself where it came from and how large it is;
our own ``luthier.alias`` object with its history. What it does not: look anything up. Called by the routes.
"""

from collections.abc import Iterable
from typing import Any

from luthier.core.aliases import Alias, AliasChange
from luthier.core.jobs import ModelRecord
from luthier.core.settings import Settings

ALIAS_KIND = "alias"


def model_object(record: ModelRecord, base: ModelRecord | None, settings: Settings) -> dict[str, Any]:
    """The ``model`` object of a base, a tuned model or a checkpoint; ``base`` is the record of the open base under it."""
    own = {"job_id": record.job_id, "step": record.step, "source": record.source, "size_bytes": record.num_bytes}
    own["runs_on"] = None if base is None or base.runs_on is None else base.runs_on.value
    return {
        "id": record.name,
        "object": "model",
        "created": record.created_at,
        "owned_by": record.owned_by,
        "shutdown_date": _shutdown_date(settings, record.name, record.base),
        "luthier": {
            "kind": record.kind.value,
            **_base_fields(record, base),
            "alias_of": None,
            **{key: value for key, value in own.items() if value is not None},
        },
    }


def alias_model_object(
    name: str, record: ModelRecord, base: ModelRecord | None, settings: Settings, *, created: int | None = None
) -> dict[str, Any]:
    """The ``model`` object of a name that stands for ``record``; ``created`` is when it was made, if it was made over the API."""
    return {
        "id": name,
        "object": "model",
        "created": record.created_at if created is None else created,
        "owned_by": settings.organization,
        "shutdown_date": _shutdown_date(settings, name, record.name, record.base),
        "luthier": {"kind": ALIAS_KIND, **_base_fields(record, base), "alias_of": record.name},
    }


def _base_fields(record: ModelRecord, base: ModelRecord | None) -> dict[str, str | None]:
    known = base is not None
    return {"base": record.base, "base_revision": base.revision if known else None, "licence": base.licence if known else None}


def _shutdown_date(settings: Settings, *names: str) -> str | None:
    """The first date announced for one of these names: a tuned model goes with its base."""
    return next((settings.shutdown_dates[name] for name in names if name in settings.shutdown_dates), None)


def alias_object(alias: Alias, settings: Settings) -> dict[str, Any]:
    """The ``luthier.alias`` object of an alias in the database."""
    return {
        **_alias_head(alias.name, alias.target, settings),
        "set_in": "database",
        "created_at": alias.created_at,
        "changed_at": alias.changed_at,
        "changed_by": alias.changed_by,
    }


def default_alias_object(name: str, settings: Settings) -> dict[str, Any]:
    """The ``luthier.alias`` object of an alias that stands only in the operator's table."""
    head = _alias_head(name, settings.aliases[name], settings)
    return {**head, "set_in": "settings", "created_at": None, "changed_at": None, "changed_by": None}


def _alias_head(name: str, target: str, settings: Settings) -> dict[str, Any]:
    return {"id": name, "object": "luthier.alias", "target": target, "default_target": settings.aliases.get(name)}


def with_history(shown: dict[str, Any], changes: Iterable[AliasChange]) -> dict[str, Any]:
    """The alias with every change of its name, newest first."""
    history = [
        {
            "object": "luthier.alias.change",
            "action": change.action.value,
            "from": change.from_target,
            "to": change.to_target,
            "changed_at": change.changed_at,
            "changed_by": change.changed_by,
        }
        for change in changes
    ]
    return {**shown, "history": history}
