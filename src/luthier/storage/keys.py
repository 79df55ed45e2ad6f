"""Rows of API keys and of projects.

What it does: adds, finds, lists, changes and revokes keys; adds, finds and lists projects. What it does not: make keys or ids,
see the keys themselves, know the first one (it stands in the data directory's file). Called by ``api``.
"""

import builtins
import dataclasses
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, func, insert, select, update

from luthier.core.errors import InvalidRequest
from luthier.core.keys import ApiKey, OwnLimits, Project, Role
from luthier.storage import schema
from luthier.storage.database import Database

MAX_KEYS = 10_000
"""Most keys of one server, revoked ones counted."""
MAX_PROJECTS = 1_000
"""Most projects of one server."""

_KEYS = schema.api_keys
_PROJECTS = schema.projects
_LIMITS = tuple(f.name for f in dataclasses.fields(OwnLimits))
_OWN = tuple(f.name for f in dataclasses.fields(ApiKey) if f.name != "limits")
_KEY_COLUMNS = tuple(_KEYS.c[name] for name in (*_OWN, *_LIMITS))
_PROJECT_COLUMNS = tuple(_PROJECTS.c[f.name] for f in dataclasses.fields(Project))


class KeyStore:
    """The tables of keys and projects."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, key: ApiKey) -> None:
        """Store a new key.

        Raises:
            InvalidRequest: there is no such project, or there are ``MAX_KEYS`` already.
        """
        values = {**{name: getattr(key, name) for name in _OWN}, **dataclasses.asdict(key.limits), "role": key.role.value}
        with self._database.write() as connection:
            known = select(_PROJECTS.c.seq).where(_PROJECTS.c.id == key.project_id)
            if connection.execute(known).one_or_none() is None:
                message = f"No such project: {key.project_id[:100]}. GET /v1/luthier/projects lists them."
                raise InvalidRequest(message, code="invalid_value", param="project_id")
            if connection.execute(select(func.count()).select_from(_KEYS)).scalar_one() >= MAX_KEYS:
                raise InvalidRequest(f"This server has {MAX_KEYS} API keys, which is the maximum.")
            connection.execute(insert(_KEYS), values)

    def find(self, sha256: str) -> ApiKey | None:
        """The key with this hash, revoked or not; None when there is none."""
        return self._one(_KEYS.c.sha256 == sha256)

    def get(self, key_id: str) -> ApiKey | None:
        """The key with this id, revoked or not; None when there is none."""
        return self._one(_KEYS.c.id == key_id)

    def list(self, *, project_id: str | None = None) -> builtins.list[ApiKey]:
        """Every key, or those of one project, newest first; revoked ones too."""
        query = select(*_KEY_COLUMNS).order_by(_KEYS.c.seq.desc())
        if project_id is not None:
            query = query.where(_KEYS.c.project_id == project_id)
        with self._database.read() as connection:
            return [_key(row) for row in connection.execute(query)]

    def change(self, key_id: str, *, name: str | None, limits: Mapping[str, int | None]) -> ApiKey | None:
        """Change a key's name, and those of its own limits that are named; None when there is no such key.

        Args:
            name: None leaves it as it is.
            limits: by field of ``OwnLimits``; a None in it gives the limit back to the server's setting.
        """
        if wrong := limits.keys() - set(_LIMITS):
            raise ValueError(f"Not limits of a key: {sorted(wrong)}.")
        changes: dict[str, Any] = {**limits, **({} if name is None else {"name": name})}
        if changes:
            with self._database.write() as connection:
                connection.execute(update(_KEYS).where(_KEYS.c.id == key_id).values(changes))
        return self.get(key_id)

    def revoke(self, key_id: str, now: int) -> bool:
        """End a key for good, from the next request on; False when there is none. One that is revoked already keeps its time."""
        with self._database.write() as connection:
            ended = {"revoked_at": func.coalesce(_KEYS.c.revoked_at, now)}
            return connection.execute(update(_KEYS).where(_KEYS.c.id == key_id).values(ended)).rowcount == 1

    def add_project(self, project: Project) -> None:
        """Store a new project.

        Raises:
            InvalidRequest: there are ``MAX_PROJECTS`` already.
        """
        with self._database.write() as connection:
            if connection.execute(select(func.count()).select_from(_PROJECTS)).scalar_one() >= MAX_PROJECTS:
                raise InvalidRequest(f"This server has {MAX_PROJECTS} projects, which is the maximum.")
            connection.execute(insert(_PROJECTS), dataclasses.asdict(project))

    def project(self, project_id: str) -> Project | None:
        """The project, or None."""
        with self._database.read() as connection:
            row = connection.execute(select(*_PROJECT_COLUMNS).where(_PROJECTS.c.id == project_id)).one_or_none()
        return None if row is None else Project(**row._asdict())

    def projects(self) -> builtins.list[Project]:
        """Every project, newest first; the default one comes last."""
        with self._database.read() as connection:
            rows = connection.execute(select(*_PROJECT_COLUMNS).order_by(_PROJECTS.c.seq.desc())).all()
        return [Project(**row._asdict()) for row in rows]

    def _one(self, condition: Any) -> ApiKey | None:
        with self._database.read() as connection:
            row = connection.execute(select(*_KEY_COLUMNS).where(condition)).one_or_none()
        return None if row is None else _key(row)


def _key(row: Row[Any]) -> ApiKey:
    values = row._asdict()
    limits = OwnLimits(**{name: values.pop(name) for name in _LIMITS})
    return ApiKey(**{**values, "role": Role(values["role"]), "limits": limits})
