"""Rows of keys and projects."""

from dataclasses import replace
from pathlib import Path

import pytest

from luthier.core.errors import InvalidRequest
from luthier.core.keys import DEFAULT_PROJECT, OwnLimits, Project, Role, key_sha256
from luthier.storage.database import Database
from luthier.storage.keys import KeyStore
from tests.support.office import START, new_api_key

PROJECT = Project(id="proj_a", name="a", created_at=START)


@pytest.fixture
def keys(database: Database) -> KeyStore:
    store = KeyStore(database)
    store.add_project(PROJECT)
    return store


def test_a_key_is_found_by_its_hash_and_by_its_id(keys: KeyStore) -> None:
    key = new_api_key(key="sk-one", project_id="proj_a", role=Role.ADMIN, limits=OwnLimits(jobs_per_day=0, tokens_per_minute=5))
    keys.add(key)
    assert keys.find(key_sha256("sk-one")) == key
    assert keys.get(key.id) == key
    assert keys.find(key_sha256("sk-two")) is None
    assert keys.get("key_x") is None


def test_the_key_itself_is_nowhere(keys: KeyStore, tmp_path: Path) -> None:
    keys.add(new_api_key(key="sk-a-secret-that-is-long-enough"))
    found = [path.name for path in tmp_path.rglob("*") if path.is_file() and b"a-secret-that-is" in path.read_bytes()]
    assert found == []


def test_a_key_needs_a_project_that_exists(keys: KeyStore) -> None:
    with pytest.raises(InvalidRequest) as error:
        keys.add(new_api_key(project_id="proj_nothing"))
    assert error.value.param == "project_id"
    assert keys.list() == []


def test_lists_are_newest_first(keys: KeyStore) -> None:
    first, second = new_api_key(key="sk-1"), new_api_key(key="sk-2", project_id="proj_a")
    keys.add(first)
    keys.add(second)
    assert keys.list() == [second, first]
    assert keys.list(project_id="proj_a") == [second]
    assert [project.id for project in keys.projects()] == ["proj_a", DEFAULT_PROJECT]
    assert keys.project("proj_a") == PROJECT
    assert keys.project("proj_x") is None


def test_a_key_is_revoked_once_and_stays_to_be_seen(keys: KeyStore) -> None:
    key = new_api_key()
    keys.add(key)
    assert keys.revoke(key.id, START + 1)
    assert keys.revoke(key.id, START + 2)
    assert keys.list() == [replace(key, revoked_at=START + 1)]
    assert not keys.revoke("key_x", START)


def test_name_and_limits_change_alone(keys: KeyStore) -> None:
    key = new_api_key(limits=OwnLimits(jobs_per_day=1, tokens_per_minute=2))
    keys.add(key)
    changed = keys.change(key.id, name="b", limits={"jobs_per_day": None, "requests_per_minute": 7})
    assert changed == replace(key, name="b", limits=OwnLimits(requests_per_minute=7, tokens_per_minute=2))
    assert keys.change(key.id, name=None, limits={}) == changed
    assert keys.change("key_x", name="b", limits={}) is None
    with pytest.raises(ValueError, match="Not limits"):
        keys.change(key.id, name=None, limits={"role": 1})
