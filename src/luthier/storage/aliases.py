"""Aliases of models, kept as the history of their changes.

What it does: creates, moves, rolls back and deletes aliases, each change one row and one transaction that checks that the
target is there and that no model has the name. What it does not: resolve a request's name (``api/model_names.py``), know the
operator's table but as defaults it is handed. Called by ``api``, by ``storage/models.py`` and by ``worker/add_base.py``.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from luthier.core.aliases import Alias, AliasAction, AliasChange, earlier_target
from luthier.core.errors import InvalidRequest, NotFound
from luthier.storage import schema
from luthier.storage.database import Database

_TABLE = schema.alias_changes
_COLUMNS = tuple(_TABLE.c[f.name] for f in dataclasses.fields(AliasChange))


class AliasStore:
    """The table of alias changes.

    Args:
        defaults: the operator's own table; an alias in it counts as one until a change of ours hides it.
    """

    def __init__(self, database: Database, defaults: Mapping[str, str] | None = None, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._defaults = defaults or {}
        self._clock = clock

    def get(self, name: str) -> Alias | None:
        """The alias, or None when there is none in the database."""
        return _folded(self._changes(name)).get(name)

    def list(self) -> tuple[Alias, ...]:
        """Every alias in the database, newest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(*_COLUMNS).order_by(_TABLE.c.seq)).all()
        return tuple(reversed(_folded(_change(row) for row in rows).values()))

    def history(self, name: str) -> tuple[AliasChange, ...]:
        """Every change of the name, newest first, those before a deletion included."""
        return tuple(reversed(self._changes(name)))

    def create(self, name: str, target: str, *, by: str) -> Alias:
        """Make an alias, or override the operator's default of that name.

        Raises:
            InvalidRequest: a model or an alias has the name, or the target is an alias.
            NotFound: the target is not a model.
        """

        def choose(connection: Connection, before: str | None) -> tuple[AliasAction, str]:
            if current_target(connection, name) is not None:
                message = f"The alias `{name}` already exists and stands for `{before}`. Move it with POST /v1/luthier/aliases/{name}."
                raise InvalidRequest(message, code="alias_exists", param="name")
            return AliasAction.CREATED, target

        return self._write(name, choose, by)

    def move(self, name: str, target: str, *, by: str) -> Alias:
        """Let an alias stand for another model; the same one again changes nothing.

        Raises:
            InvalidRequest: the target is an alias, or a model has the name of the operator's default.
            NotFound: there is no such alias, or the target is not a model.
        """

        def choose(_connection: Connection, before: str | None) -> tuple[AliasAction, str]:
            _existing(name, before)
            return AliasAction.MOVED, target

        return self._write(name, choose, by)

    def rollback(self, name: str, *, by: str) -> Alias:
        """Let an alias stand again for what it stood for before its last move that was not rolled back.

        Raises:
            InvalidRequest: there is no earlier target.
            NotFound: there is no such alias, or the earlier target is gone.
        """

        def choose(connection: Connection, before: str | None) -> tuple[AliasAction, str]:
            _existing(name, before)
            target = earlier_target(_history(connection, name))
            if target is None:
                message = f"The alias `{name}` has no earlier target: it has stood for `{before}` since it was made."
                raise InvalidRequest(message, code="no_earlier_target", param="name")
            return AliasAction.ROLLED_BACK, target

        return self._write(name, choose, by)

    def delete(self, name: str, *, by: str) -> None:
        """Delete an alias; its history stays, and the operator's default of that name counts again.

        Raises:
            InvalidRequest: it is the operator's default, which only the operator can remove.
            NotFound: there is no such alias.
        """
        with self._database.write() as connection:
            before = current_target(connection, name)
            if before is None and name in self._defaults:
                message = f"The alias `{name}` stands in the server's own settings; it can be moved here, but only be removed there."
                raise InvalidRequest(message, code="alias_in_settings", param="name")
            self._append(connection, name, AliasAction.DELETED, _existing(name, before), None, by)

    def _write(self, name: str, choose: Callable[[Connection, str | None], tuple[AliasAction, str]], by: str) -> Alias:
        with self._database.write() as connection:
            before = current_target(connection, name) or self._defaults.get(name)
            action, target = choose(connection, before)
            if _is_model(connection, name):
                message = f"A model named `{name}` exists; an alias may not hide it. Choose another name."
                raise InvalidRequest(message, code="model_exists", param="name")
            self._check_target(connection, target)
            # A default that is moved to where it already points has no row yet and gets one: the wish was to fix it.
            if target != current_target(connection, name):
                self._append(connection, name, action, before, target, by)
            return _folded(_history(connection, name))[name]

    def _check_target(self, connection: Connection, target: str) -> None:
        if _is_model(connection, target):
            return
        behind = current_target(connection, target) or self._defaults.get(target)
        if behind is not None:
            message = f"An alias cannot stand for another alias. `{target}` is one; name the model itself, `{behind}`."
            raise InvalidRequest(message, code="alias_of_alias", param="target")
        raise NotFound(f"The model `{target}` does not exist or you do not have access to it.", code="model_not_found", param="target")

    def _append(self, connection: Connection, name: str, action: AliasAction, before: str | None, after: str | None, by: str) -> None:
        values = {"name": name, "action": action.value, "from_target": before, "to_target": after}
        connection.execute(insert(_TABLE), {**values, "changed_at": int(self._clock()), "changed_by": by})

    def _changes(self, name: str) -> tuple[AliasChange, ...]:
        with self._database.read() as connection:
            return _history(connection, name)


def current_target(connection: Connection, name: str) -> str | None:
    """What the alias stands for by its newest row; None when there is no row, or the newest deleted it."""
    query = select(_TABLE.c.to_target).where(_TABLE.c.name == name).order_by(_TABLE.c.seq.desc()).limit(1)
    return connection.execute(query).scalar_one_or_none()


def aliases_of(connection: Connection, target: str, defaults: Mapping[str, str]) -> tuple[str, ...]:
    """The aliases that stand for ``target`` now; a default counts where no row of ours hides it."""
    newest = select(func.max(_TABLE.c.seq)).group_by(_TABLE.c.name).scalar_subquery()
    rows = connection.execute(select(_TABLE.c.name).where(_TABLE.c.seq.in_(newest), _TABLE.c.to_target == target).order_by(_TABLE.c.seq))
    ours = tuple(rows.scalars())
    theirs = [name for name, default in defaults.items() if default == target and current_target(connection, name) is None]
    return ours + tuple(theirs)


def _existing(name: str, before: str | None) -> str:
    if before is None:
        raise NotFound(f"No such alias: {name}", code="alias_not_found", param="name")
    return before


def _is_model(connection: Connection, name: str) -> bool:
    live = select(schema.models.c.seq).where(schema.models.c.name == name, schema.models.c.deleted_at.is_(None))
    return connection.execute(live).first() is not None


def _history(connection: Connection, name: str) -> tuple[AliasChange, ...]:
    rows = connection.execute(select(*_COLUMNS).where(_TABLE.c.name == name).order_by(_TABLE.c.seq))
    return tuple(_change(row) for row in rows)


def _change(row: Row[Any]) -> AliasChange:
    values = row._asdict()
    return AliasChange(**{**values, "action": AliasAction(values["action"])})


def _folded(changes: Iterable[AliasChange]) -> dict[str, Alias]:
    """The aliases after all these changes, in the order in which they were made."""
    found: dict[str, Alias] = {}
    for change in changes:
        before = found.get(change.name)
        if change.to_target is None:
            found.pop(change.name, None)
            continue
        found[change.name] = Alias(
            name=change.name,
            target=change.to_target,
            created_at=before.created_at if before is not None else change.changed_at,
            changed_at=change.changed_at,
            changed_by=change.changed_by,
        )
    return found
