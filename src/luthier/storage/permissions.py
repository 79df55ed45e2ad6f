"""Which projects may use which tuned models and checkpoints.

What it does: grants, lists and takes away permissions. What it does not: know whether a model exists (the routes look), or
enforce anything: ``models.py`` shows a project the models that it was given permission for. Called by ``api``.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert

from luthier.core.errors import NotFound
from luthier.core.jobs import CheckpointPermission
from luthier.storage import schema
from luthier.storage.database import Database
from luthier.storage.pages import Page, cut

_TABLE = schema.checkpoint_permissions
_COLUMNS = tuple(_TABLE.c[f.name] for f in dataclasses.fields(CheckpointPermission))


class PermissionStore:
    """The table of checkpoint permissions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def grant(self, permissions: Sequence[CheckpointPermission]) -> tuple[CheckpointPermission, ...]:
        """Store permissions, all or none; of one that exists already the stored one stays, so that a repeated call changes nothing.

        Returns:
            The permissions as stored, in the order given.
        """
        stored: list[CheckpointPermission] = []
        with self._database.write() as connection:
            for permission in permissions:
                connection.execute(insert(_TABLE).values(dataclasses.asdict(permission)).on_conflict_do_nothing())
                same = (_TABLE.c.model_name == permission.model_name) & (_TABLE.c.project_id == permission.project_id)
                stored.append(CheckpointPermission(**connection.execute(select(*_COLUMNS).where(same)).one()._asdict()))
        return tuple(stored)

    def list(
        self,
        model_name: str,
        *,
        project_id: str | None = None,
        limit: int = 10,
        order: Literal["ascending", "descending"] = "descending",
        after: str | None = None,
    ) -> Page[CheckpointPermission]:
        """The permissions of one model, by the order in which they were granted.

        Args:
            model_name: as the models' table has it.
            project_id: only this project's.
            limit: most items on the page.
            order: ``ascending`` for the oldest first.
            after: id of the last permission of the page before.

        Raises:
            NotFound: ``after`` is not a permission of this model.
        """
        mine = _TABLE.c.model_name == model_name
        query = select(*_COLUMNS).where(mine)
        if project_id is not None:
            query = query.where(_TABLE.c.project_id == project_id)
        with self._database.read() as connection:
            if after is not None:
                start = connection.execute(select(_TABLE.c.seq).where(mine, _TABLE.c.id == after)).scalar_one_or_none()
                if start is None:
                    raise NotFound(f"No such object: {after}", param="after")
                query = query.where(_TABLE.c.seq > start if order == "ascending" else _TABLE.c.seq < start)
            query = query.order_by(_TABLE.c.seq if order == "ascending" else _TABLE.c.seq.desc())
            rows = connection.execute(query.limit(limit + 1)).all()
        return cut(rows, limit, lambda row: CheckpointPermission(**row._asdict()))

    def delete(self, model_name: str, permission_id: str) -> bool:
        """Take a permission away; False when the model has none of this id."""
        mine = (_TABLE.c.model_name == model_name) & (_TABLE.c.id == permission_id)
        with self._database.write() as connection:
            return connection.execute(delete(_TABLE).where(mine)).rowcount == 1
