"""Rates on a clock that is moved by hand."""

import pytest

from luthier.api.rate_limits import BadKeys, Bucket, RateLimits, Turn, duration_text
from luthier.core.engine_messages import Started, TokenChunk
from luthier.core.errors import TooManyRequests
from luthier.core.keys import Limits
from tests.support.fake_engine import finished
from tests.support.office import Clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-1, "0s"),
        (0.0001, "1ms"),
        (0.12, "120ms"),
        (1, "1s"),
        (8.64, "8.64s"),
        (59.9999, "1m0s"),
        (360, "6m0s"),
        (61.5, "1m1.5s"),
        (86400, "24h0m0s"),
    ],
)
def test_durations_as_upstream_writes_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_bucket_refills_evenly_and_not_above_its_brim() -> None:
    bucket = Bucket(60, now=0)
    bucket.take(60, 0)
    assert (bucket.level(0), bucket.wait_for(1, 0), bucket.wait_for(60, 0)) == (0, 1, 60)
    assert bucket.level(30) == 30
    assert bucket.level(10_000) == 60


def test_a_bucket_may_be_overdrawn_and_works_it_off() -> None:
    bucket = Bucket(60, now=0)
    bucket.take(90, 0)
    assert (bucket.level(0), bucket.wait_for(1, 0)) == (-30, 31)
    assert bucket.level(31) == 1


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = Bucket(60, now=100)
    bucket.take(60, 100)
    assert bucket.level(50) == 0
    assert bucket.level(101) == 1


def test_another_allowance_keeps_what_was_used() -> None:
    bucket = Bucket(10, now=0)
    bucket.take(4, 0)
    bucket.resize(20, 0)
    assert bucket.level(0) == 16
    bucket.resize(2, 0)
    assert bucket.level(0) == -2


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rates(clock: Clock) -> RateLimits:
    return RateLimits("org", clock)


def test_without_limits_everything_is_admitted_and_nothing_told(rates: RateLimits) -> None:
    for _ in range(1000):
        rates.admit("a", Limits())
    assert rates.headers("a", Limits()) == {}


def test_a_refusal_counts_nothing(rates: RateLimits, clock: Clock) -> None:
    limits = Limits(requests_per_minute=2, concurrent_generations=1)
    turn = rates.admit("a", limits)
    for _ in range(5):
        with pytest.raises(TooManyRequests):
            rates.admit("a", limits)
    assert rates.headers("a", limits)["x-ratelimit-remaining-requests"] == "1"
    turn.end()
    turn.end()
    rates.admit("a", limits)
    with pytest.raises(TooManyRequests, match="concurrent requests"):
        rates.admit("a", limits)


def test_the_wait_that_is_told_is_enough(rates: RateLimits, clock: Clock) -> None:
    limits = Limits(requests_per_minute=7)
    for _ in range(7):
        rates.admit("a", limits)
    with pytest.raises(TooManyRequests) as error:
        rates.admit("a", limits)
    assert error.value.retry_after is not None
    clock.now += error.value.retry_after
    rates.admit("a", limits)


def used(rates: RateLimits, turn: Turn, limits: Limits) -> int:
    return limits.tokens_per_minute - int(rates.headers("a", limits)["x-ratelimit-remaining-tokens"])


def test_tokens_are_counted_while_they_come_and_set_right_at_the_end(rates: RateLimits) -> None:
    limits = Limits(tokens_per_minute=1000)
    turn = rates.admit("a", limits)
    turn.take(0, Started(prompt_tokens=10))
    assert used(rates, turn, limits) == 10
    for _ in range(3):
        turn.take(0, TokenChunk(text="a"))
    assert used(rates, turn, limits) == 13
    turn.take(0, finished(prompt_tokens=10, completion_tokens=5))
    assert used(rates, turn, limits) == 15


def test_answers_to_one_prompt_share_it(rates: RateLimits) -> None:
    limits = Limits(tokens_per_minute=1000)
    turn = rates.admit("a", limits)
    for index in range(4):
        turn.take(index, finished(prompt_tokens=10, completion_tokens=1), per_prompt=2)
    assert used(rates, turn, limits) == 2 * 10 + 4


def test_a_limit_that_is_taken_away_ends_at_once(rates: RateLimits) -> None:
    rates.admit("a", Limits(requests_per_minute=1))
    with pytest.raises(TooManyRequests):
        rates.admit("a", Limits(requests_per_minute=1))
    rates.admit("a", Limits())
    rates.admit("a", Limits(requests_per_minute=1))


def tries(bad: BadKeys, address: str, *keys: str) -> None:
    for key in keys:
        bad.check(address)
        bad.note(address, key)


def test_an_address_is_stopped_after_so_many_different_keys(clock: Clock) -> None:
    bad = BadKeys(3, clock)
    tries(bad, "a", "1", "1", "1", "2", "2", "1")
    clock.now += 10
    tries(bad, "a", "3")
    with pytest.raises(TooManyRequests) as error:
        bad.check("a")
    assert error.value.retry_after == 50
    bad.check("b")
    clock.now += 50
    bad.check("a")
    tries(bad, "a", "4")


def test_any_number_of_keys_where_there_is_no_limit(clock: Clock) -> None:
    bad = BadKeys(0, clock)
    tries(bad, "a", *map(str, range(1000)))
    bad.check("a")


def test_addresses_do_not_fill_the_memory(clock: Clock) -> None:
    bad = BadKeys(1, clock)
    for n in range(10_000):
        bad.note(str(n), "1")
    bad.check("0")
    with pytest.raises(TooManyRequests):
        bad.check("9999")
    assert len(bad._tried) < 5000
