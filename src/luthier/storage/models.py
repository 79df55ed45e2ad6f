"""Rows of served models: bases, tuned models, checkpoints.

What it does: puts, finds, lists and deletes model records; says what an alias stands for. What it does not: touch weights,
change aliases (``aliases.py``). Called by ``api`` and ``worker``. A deleted row stays as a tombstone until a model of the same
name is put again.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Row, select, update
from sqlalchemy.dialects.sqlite import insert

from luthier.core.errors import InvalidRequest
from luthier.core.jobs import ModelKind, ModelRecord
from luthier.storage import schema
from luthier.storage.aliases import aliases_of, current_target
from luthier.storage.database import Database

_FIELDS = tuple(f.name for f in dataclasses.fields(ModelRecord))
_COLUMNS = tuple(schema.models.c[name] for name in _FIELDS)
_LIVE = schema.models.c.deleted_at.is_(None)


class ModelStore:
    """The table of models."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def put(self, record: ModelRecord) -> None:
        """Store a model's row; one of the same name is replaced and keeps its place in the list."""
        with self._database.write() as connection:
            put_model(connection, record)

    def get(self, name: str) -> ModelRecord | None:
        """The record, or None when there is none or it was deleted."""
        with self._database.read() as connection:
            row = connection.execute(select(*_COLUMNS).where(schema.models.c.name == name, _LIVE)).one_or_none()
        return None if row is None else _record(row)

    def list(self) -> tuple[ModelRecord, ...]:
        """All models, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(*_COLUMNS).where(_LIVE).order_by(schema.models.c.seq)).all()
        return tuple(_record(row) for row in rows)

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
            aliases = aliases_of(connection, name, default_aliases or {})
            if aliases:
                named = ", ".join(f"`{alias}`" for alias in aliases)
                which = f"the alias {named} stands" if len(aliases) == 1 else f"the aliases {named} stand"
                message = f"The model `{name}` cannot be deleted, because {which} for it. Move or delete it first."
                raise InvalidRequest(message, code="model_has_alias", param="model")
            statement = update(schema.models).where(schema.models.c.name == name, _LIVE).values(deleted_at=self._clock())
            return connection.execute(statement).rowcount == 1


def put_model(connection: Connection, record: ModelRecord) -> None:
    """Insert or replace one row inside the caller's transaction."""
    values = {name: getattr(record, name) for name in _FIELDS}
    values["kind"] = record.kind.value
    changed = {**values, "deleted_at": None}
    del changed["name"]
    connection.execute(insert(schema.models).values(values).on_conflict_do_update(index_elements=["name"], set_=changed))


def _record(row: Row[Any]) -> ModelRecord:
    values = row._asdict()
    return ModelRecord(**{**values, "kind": ModelKind(values["kind"])})
