"""The table of roles: the rule by which a path finds its entry, and the refusal."""

import pytest

from luthier.api.access import TABLE, check_role, needs_of
from luthier.core.errors import PermissionRefused
from luthier.core.keys import DEFAULT_PROJECT, Caller, Role


def caller(role: Role) -> Caller:
    return Caller(key_id="key_x", role=role, project_id=DEFAULT_PROJECT)


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/v1/files", "api.files"),
        ("/v1/files/file-1/content", "api.files"),
        ("/v1/luthier/files/from_completions", "api.luthier.files"),
        ("/v1/luthier/datasets/tasks/dstask-1", "api.luthier.datasets"),
        ("/v1/fine_tuning/checkpoints/ft:a:b/c/permissions", "api.fine_tuning.checkpoints.permissions"),
        ("/v1/chat/completions", "api.chat.completions"),
    ],
)
def test_the_longest_beginning_in_whole_parts_counts(path: str, scope: str) -> None:
    assert needs_of(path).scope == scope


@pytest.mark.parametrize("path", ["/v1/filesystem", "/v1/new/thing", "/v1", "/", "//v1/files", "/v1/luthier"])
def test_what_is_not_in_the_table_is_for_admins(path: str) -> None:
    assert path not in TABLE
    check_role(caller(Role.ADMIN), "GET", path)
    for role in (Role.READ_ONLY, Role.MEMBER):
        with pytest.raises(PermissionRefused):
            check_role(caller(role), "GET", path)


def test_reading_and_working() -> None:
    check_role(caller(Role.READ_ONLY), "GET", "/v1/files")
    check_role(caller(Role.MEMBER), "POST", "/v1/files")
    with pytest.raises(PermissionRefused, match=r"Missing scopes: api\.files\.write\. .* role 'read-only'; this needs the role 'member'"):
        check_role(caller(Role.READ_ONLY), "DELETE", "/v1/files/x")
    with pytest.raises(PermissionRefused, match=r"Missing scopes: api\.luthier\.keys\.read\."):
        check_role(caller(Role.MEMBER), "GET", "/v1/luthier/keys")
