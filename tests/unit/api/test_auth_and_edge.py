import pytest

from luthier.api.auth import check_key, key_id
from luthier.api.edge import host_allowed
from luthier.core.errors import AuthenticationFailed

KEY = "sk-luthier-0123456789"


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY}", f"Bearer  {KEY} "])
def test_the_key_passes(header: str) -> None:
    check_key(header, KEY)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", KEY, f"Basic {KEY}", f"Bearer\t{KEY}"])
def test_no_key_is_told_as_such(header: str | None) -> None:
    with pytest.raises(AuthenticationFailed) as error:
        check_key(header, KEY)
    assert error.value.code is None


@pytest.mark.parametrize("key", [KEY + "x", KEY[:-1], KEY.upper(), "\udcff\u00e9", "x"])
def test_a_wrong_key_is_told_and_masked(key: str) -> None:
    with pytest.raises(AuthenticationFailed) as error:
        check_key(f"Bearer {key}", KEY)
    assert error.value.code == "invalid_api_key"
    assert key not in error.value.message or len(key) == 1


def test_a_server_without_a_key_lets_nobody_in() -> None:
    with pytest.raises(AuthenticationFailed):
        check_key("Bearer x", "")


def test_a_keys_id_does_not_tell_the_key() -> None:
    assert key_id(KEY) == key_id(KEY) != key_id(KEY + "x")
    assert KEY not in key_id(KEY)


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
