"""Whose a row is: stores that can be narrowed to one project.

What it does: ``in_project`` gives a view of a store that finds, changes and makes rows of one project only. What it does not:
know who asks. ``api/deps.py`` narrows every store of this kind for each request; worker and sweepers use them as they are.

A new store gets its project so: a ``project_id`` column in ``schema.py`` (``owner_column``), ``Owned`` as the class's base,
``self._mine(table)`` in every ``where``, ``self._owner`` in every ``insert``, a row in ``tests/contract/test_projects.py``.
"""

import copy
from typing import TypeVar

from sqlalchemy import ColumnElement, Table, true

from luthier.core.keys import DEFAULT_PROJECT

Store = TypeVar("Store", bound="Owned")


class Owned:
    """A store of rows that each belong to a project. It sees all of them until it is narrowed."""

    _project_id: str | None = None

    def in_project(self: Store, project_id: str) -> Store:
        """This store, narrowed to one project: what others own is not there."""
        view = copy.copy(self)
        view._project_id = project_id
        return view

    @property
    def _owner(self) -> str:
        """The project of a new row."""
        return DEFAULT_PROJECT if self._project_id is None else self._project_id

    def _mine(self, table: Table) -> ColumnElement[bool]:
        """The condition under which a row is seen."""
        return owned_by(table, self._project_id)


def owned_by(table: Table, project_id: str | None) -> ColumnElement[bool]:
    """The condition under which a row belongs to a project; None stands for all of them."""
    return true() if project_id is None else table.c.project_id == project_id
