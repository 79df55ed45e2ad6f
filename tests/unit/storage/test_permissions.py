"""Permissions of checkpoints: granted once, listed in both orders, taken away."""

import pytest

from luthier.core.errors import NotFound
from luthier.core.ids import new_permission_id
from luthier.core.jobs import CheckpointPermission
from luthier.storage.database import Database
from luthier.storage.permissions import PermissionStore
from tests.support.office import START


@pytest.fixture
def permissions(database: Database) -> PermissionStore:
    return PermissionStore(database)


def grants(*projects: str, model: str = "ft:m", created_at: int = START) -> list[CheckpointPermission]:
    return [
        CheckpointPermission(id=new_permission_id(), model_name=model, project_id=project, created_at=created_at) for project in projects
    ]


def test_a_permission_is_granted_once_per_model_and_project(permissions: PermissionStore) -> None:
    first = permissions.grant(grants("a", "b"))
    again = permissions.grant(grants("b", "c", created_at=START + 9))
    assert again[0] == first[1]
    assert again[1].created_at == START + 9
    other = permissions.grant(grants("a", model="ft:other"))
    assert permissions.list("ft:m").items == (again[1], first[1], first[0])
    assert permissions.list("ft:other").items == other
    assert permissions.list("ft:m", project_id="b").items == (first[1],)


def test_pages_follow_each_other_in_both_orders(permissions: PermissionStore) -> None:
    granted = permissions.grant(grants("a", "b", "c"))
    first = permissions.list("ft:m", limit=2, order="ascending")
    assert (first.items, first.has_more) == (granted[:2], True)
    rest = permissions.list("ft:m", limit=2, order="ascending", after=granted[1].id)
    assert (rest.items, rest.has_more) == (granted[2:], False)
    assert permissions.list("ft:m", limit=2, after=granted[1].id).items == granted[:1]
    with pytest.raises(NotFound):
        permissions.list("ft:other", after=granted[0].id)


def test_a_permission_is_taken_away_from_its_own_model_only(permissions: PermissionStore) -> None:
    (granted,) = permissions.grant(grants("a"))
    assert not permissions.delete("ft:other", granted.id)
    assert permissions.delete("ft:m", granted.id)
    assert not permissions.delete("ft:m", granted.id)
    assert permissions.list("ft:m").items == ()
