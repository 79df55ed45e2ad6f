import pytest

from luthier.core.keys import Limits, OwnLimits, Role, first_key_id, key_sha256, masked

KEY = "sk-luthier-0123456789"


def test_each_role_includes_the_lower_ones() -> None:
    order = [Role.READ_ONLY, Role.MEMBER, Role.ADMIN]
    assert order == list(Role)
    for i, role in enumerate(order):
        assert [role.includes(other) for other in order] == [j <= i for j in range(3)]


def test_own_limits_win_where_there_are_any() -> None:
    servers = Limits(requests_per_minute=1, tokens_per_minute=2, concurrent_generations=3, jobs_per_day=4)
    assert servers.overridden(OwnLimits()) == servers
    own = OwnLimits(requests_per_minute=0, tokens_per_minute=20, jobs_per_day=40)
    expected = Limits(requests_per_minute=0, tokens_per_minute=20, concurrent_generations=3, jobs_per_day=40)
    assert servers.overridden(own) == expected
    one = OwnLimits(concurrent_generations=9)
    assert servers.overridden(one).concurrent_generations == 9


def test_what_is_kept_does_not_tell_the_key() -> None:
    assert first_key_id(KEY) == first_key_id(KEY) != first_key_id(KEY + "x")
    assert key_sha256(KEY).startswith(first_key_id(KEY))
    assert KEY not in key_sha256(KEY)
    assert key_sha256("\udcff\u00e9") != key_sha256("\u00e9")


@pytest.mark.parametrize(("key", "shown"), [(KEY, "sk-********6789"), ("sk-mine", "*******"), ("", "")])
def test_masked(key: str, shown: str) -> None:
    assert masked(key) == shown
