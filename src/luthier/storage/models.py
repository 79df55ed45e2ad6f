"""Rows of served models: bases, tuned models, checkpoints.

What it does: puts, finds, lists and deletes model records; says what an alias stands for. What it does not: touch weights,
change aliases (``aliases.py``). Called by ``api`` and ``worker``. A deleted row stays as a tombstone until a model of the same
name is put again.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, exists, select, true, update
from sqlalchemy.dialects.sqlite import insert

from luthier.core.errors import InvalidRequest
from luthier.core.jobs import ModelKind, ModelRecord, RunsOn
from luthier.storage import schema
from luthier.storage.aliases import aliases_of, current_target
from luthier.storage.database import Database
from luthier.storage.ownership import Owned

_FIELDS = tuple(f.name for f in dataclasses.fields(ModelRecord))
_COLUMNS = tuple(schema.models.c[name] for name in _FIELDS)
_LIVE = schema.models.c.deleted_at.is_(None)


class ModelStore(Owned):
    """The table of models. A project sees the bases, its own models, and those of others that it was given permission for."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def put(self, record: ModelRecord) -> None:
        """Store a model's row; one of the same name is replaced and keeps its place in the list."""
        with self._database.write() as connection:
            put_model(connection, record, self._owner)

    def get(self, name: str) -> ModelRecord | None:
        """The record, or None when there is none or it was deleted."""
        with self._database.read() as connection:
            row = connection.execute(select(*_COLUMNS).where(schema.models.c.name == name, self._seen(), _LIVE)).one_or_none()
        return None if row is None else _record(row)

    def list(self) -> tuple[ModelRecord, ...]:
        """All models that are seen, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(*_COLUMNS).where(self._seen(), _LIVE).order_by(schema.models.c.seq)).all()
        return tuple(_record(row) for row in rows)

    def is_own(self, name: str) -> bool:
        """True for a model that may be changed and trained on: not one of another project, whatever the permissions."""
        with self._database.read() as connection:
            return self._has(connection, name)

    def alias_target(self, name: str) -> str | None:
        """The model's name that the alias ``name`` stands for; None when the database has no such alias."""
        with self._database.read() as connection:
            return current_target(connection, name)

    def delete(self, name: str, default_aliases: Mapping[str, str] | None = None) -> bool:
        """Delete a model's row; False when there was none.

        Args:
            default_aliases: the operator's own table of aliases, which counts beside those in the database.

        Raises:
            InvalidRequest: an alias stands for the model.
        """
        with self._database.write() as connection:
            if not self._has(connection, name):
                return False
            aliases = aliases_of(connection, name, default_aliases or {})
            if aliases:
                named = ", ".join(f"`{alias}`" for alias in aliases)
                which = f"the alias {named} stands" if len(aliases) == 1 else f"the aliases {named} stand"
                message = f"The model `{name}` cannot be deleted, because {which} for it. Move or delete it first."
                raise InvalidRequest(message, code="model_has_alias", param="model")
            statement = update(schema.models).where(schema.models.c.name == name, _LIVE).values(deleted_at=self._clock())
            return connection.execute(statement).rowcount == 1

    def _has(self, connection: Connection, name: str) -> bool:
        found = select(schema.models.c.seq).where(schema.models.c.name == name, self._mine(schema.models), _LIVE)
        return connection.execute(found).one_or_none() is not None

    def _seen(self) -> ColumnElement[bool]:
        if self._project_id is None:
            return true()
        models, permissions = schema.models, schema.checkpoint_permissions
        permitted = exists().where(permissions.c.model_name == models.c.name, permissions.c.project_id == self._project_id)
        return models.c.project_id.is_(None) | (models.c.project_id == self._project_id) | permitted


def put_model(connection: Connection, record: ModelRecord, project_id: str) -> None:
    """Insert or replace one row inside the caller's transaction; it belongs to this project, unless it is a base: those are everyone's."""
    values = {name: getattr(record, name) for name in _FIELDS}
    values["kind"] = record.kind.value
    values["runs_on"] = None if record.runs_on is None else record.runs_on.value
    values["project_id"] = None if record.kind is ModelKind.BASE else project_id
    changed = {**values, "deleted_at": None}
    del changed["name"]
    connection.execute(insert(schema.models).values(values).on_conflict_do_update(index_elements=["name"], set_=changed))


def _record(row: Row[Any]) -> ModelRecord:
    values = row._asdict()
    runs_on = None if values["runs_on"] is None else RunsOn(values["runs_on"])
    return ModelRecord(**{**values, "kind": ModelKind(values["kind"]), "runs_on": runs_on})
