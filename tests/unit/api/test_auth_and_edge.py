import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from luthier.api.auth import bearer_key, identify
from luthier.api.deps import Services
from luthier.api.edge import host_allowed
from luthier.core.errors import AuthenticationFailed
from luthier.core.keys import DEFAULT_PROJECT, Caller, Limits, OwnLimits, Project, Role, first_key_id
from tests.support.api_server import KEY, new_services
from tests.support.fake_engine import FakeEngine
from tests.support.office import new_api_key


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    engine = FakeEngine().start()
    services = new_services(tmp_path / "data", engine)
    yield services
    services.database.close()
    engine.stop()


def caller(key: str, services: Services) -> Caller:
    return asyncio.run(identify(services, key))


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY}", f"Bearer  {KEY} "])
def test_the_key_is_read(header: str) -> None:
    assert bearer_key(header) == KEY


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", KEY, f"Basic {KEY}", f"Bearer\t{KEY}"])
def test_no_key_is_told_as_such(header: str | None) -> None:
    with pytest.raises(AuthenticationFailed) as error:
        bearer_key(header)
    assert error.value.code is None


def test_the_first_key_is_an_admins(services: Services) -> None:
    first = caller(KEY, services)
    assert (first.key_id, first.role, first.project_id) == (first_key_id(KEY), Role.ADMIN, DEFAULT_PROJECT)


@pytest.mark.parametrize("key", [KEY + "x", KEY[:-1], KEY.upper(), "\udcff\u00e9", "x"])
def test_a_wrong_key_is_told_and_masked(services: Services, key: str) -> None:
    with pytest.raises(AuthenticationFailed) as error:
        caller(key, services)
    assert error.value.code == "invalid_api_key"
    assert key not in error.value.message or len(key) == 1


def test_a_server_without_a_key_lets_nobody_in(services: Services) -> None:
    for key in ("", "x"):
        with pytest.raises(AuthenticationFailed):
            caller(key, replace(services, api_key=""))


def test_a_kept_key_is_who_its_row_says_until_it_is_revoked(services: Services) -> None:
    services.keys.add_project(Project(id="proj_a", name="a", created_at=1))
    limits = OwnLimits(jobs_per_day=3, requests_per_minute=0)
    services.keys.add(new_api_key(key="sk-one", project_id="proj_a", role=Role.READ_ONLY, limits=limits))
    settings = replace(services.settings, jobs_per_day=9, requests_per_minute=9, tokens_per_minute=9)
    found = caller("sk-one", replace(services, settings=settings))
    assert (found.role, found.project_id) == (Role.READ_ONLY, "proj_a")
    assert found.limits == Limits(requests_per_minute=0, tokens_per_minute=9, jobs_per_day=3)
    assert services.keys.revoke(found.key_id, 2)
    with pytest.raises(AuthenticationFailed):
        caller("sk-one", services)


@pytest.mark.parametrize("host", ["localhost", "LocalHost:8000", "127.0.0.1", "[::1]:1", "testserver", "box.example:80"])
def test_hosts_of_this_server(host: str) -> None:
    assert host_allowed([host], "Box.example")


@pytest.mark.parametrize(
    "values",
    [[], ["evil.example"], ["localhost", "localhost"], ["localhost/?"], ["localhost#"], ["a@localhost"], [" localhost"], ["localhost\n"]],
)
def test_other_hosts(values: list[str]) -> None:
    assert not host_allowed(values, "box.example")


@pytest.mark.parametrize("configured", ["0.0.0.0", "::", "[::]"])
def test_any_name_when_listening_everywhere(configured: str) -> None:
    assert host_allowed(["whatever.example:80"], configured)
    assert not host_allowed(["what/ever"], configured)


def test_an_ipv6_address_may_be_configured_bare() -> None:
    assert host_allowed(["[fe80::1]:8000"], "fe80::1")
    assert not host_allowed(["[fe80::2]:8000"], "fe80::1")
