"""Limits per key: requests and tokens a minute, generations at once, jobs a day, with the official client."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest

from luthier.api.rate_limits import RateLimits
from luthier.core.engine_messages import Started, TokenChunk
from luthier.core.keys import DEFAULT_PROJECT
from tests.support.api_server import ApiServer
from tests.support.fake_engine import BASE, HANG
from tests.support.office import Clock

SAID: Any = [{"role": "user", "content": "hi"}]
TOKENS = 11
"""What one answer of the fake engine uses: a prompt of 7, an answer of 4."""


@pytest.fixture
def clock(server: ApiServer) -> Iterator[Clock]:
    """The clock of the rates, which stands still; and nothing is used yet."""
    clock = Clock()
    before = server.app.state.services
    server.app.state.services = replace(before, rates=RateLimits("luthier", clock))
    yield clock
    server.app.state.services = before


def limited(server: ApiServer, **limits: int) -> openai.OpenAI:
    return server.client(api_key=server.new_key("member", DEFAULT_PROJECT, **limits))


def ask(client: openai.OpenAI, call: str = "chat", **more: Any) -> Any:
    """One raw answer of one of the three generating calls."""
    if call == "chat":
        return client.chat.completions.with_raw_response.create(model=BASE, messages=SAID, **more)
    if call == "completions":
        return client.completions.with_raw_response.create(model=BASE, prompt="hi", **more)
    return client.responses.with_raw_response.create(model=BASE, input="hi", **more)


CALLS = ["chat", "completions", "responses"]


@pytest.mark.parametrize("call", CALLS)
def test_requests_per_minute(server: ApiServer, clock: Clock, call: str) -> None:
    client = limited(server, requests_per_minute=3)
    told = [ask(client, call).headers for _ in range(3)]
    assert [h["x-ratelimit-limit-requests"] for h in told] == ["3", "3", "3"]
    assert [h["x-ratelimit-remaining-requests"] for h in told] == ["2", "1", "0"]
    assert [h["x-ratelimit-reset-requests"] for h in told] == ["20s", "40s", "1m0s"]
    with pytest.raises(openai.RateLimitError) as error:
        ask(client, call)
    assert error.value.type == "requests"
    assert error.value.code == "rate_limit_exceeded"
    assert "on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s." in error.value.message
    headers = error.value.response.headers
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("20", "20000")
    assert headers["x-ratelimit-remaining-requests"] == "0"
    clock.now += 20
    assert ask(client, call).headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("call", CALLS)
def test_tokens_per_minute(server: ApiServer, clock: Clock, call: str, stream: bool) -> None:
    client = limited(server, tokens_per_minute=TOKENS + 1)
    first = ask(client, call, stream=stream)
    if stream:
        assert list(first.parse())
    else:
        # Counted before the whole answer is sent: its own headers tell of it.
        assert first.headers["x-ratelimit-remaining-tokens"] == "1"
    assert first.headers["x-ratelimit-limit-tokens"] == str(TOKENS + 1)
    assert "x-ratelimit-limit-requests" not in first.headers
    second = ask(client, call)  # one token is left, and what an answer needs shows only afterwards
    assert second.headers["x-ratelimit-remaining-tokens"] == "0"
    assert second.headers["x-ratelimit-reset-tokens"] == "1m50s"
    with pytest.raises(openai.RateLimitError) as error:
        ask(client, call)
    assert (error.value.type, error.value.code) == ("tokens", "rate_limit_exceeded")
    assert "on tokens per min (TPM): Limit 12, Used 22, Requested 1. Please try again in 55s." in error.value.message


def test_several_answers_to_one_prompt_count_it_once(server: ApiServer, clock: Clock) -> None:
    client = limited(server, tokens_per_minute=100)
    answer = ask(client, n=3)
    used = answer.parse().usage
    assert used.total_tokens == 7 + 3 * 4
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(100 - used.total_tokens)
    again = ask(client, "completions", n=1, best_of=2)
    assert again.headers["x-ratelimit-remaining-tokens"] == str(100 - used.total_tokens - again.parse().usage.total_tokens)


def test_a_refused_request_costs_nothing_but_counts(server: ApiServer, clock: Clock) -> None:
    client = limited(server, requests_per_minute=2)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nothing", messages=SAID)
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="nothing", messages=SAID)
    assert error.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    with pytest.raises(openai.RateLimitError):
        ask(client)
    assert not server.engine.generations


def test_keys_do_not_share_limits(server: ApiServer, clock: Clock) -> None:
    first, second, free = limited(server, requests_per_minute=1), limited(server, requests_per_minute=1), limited(server)
    ask(first)
    with pytest.raises(openai.RateLimitError):
        ask(first)
    ask(second)
    assert not [name for name in ask(free).headers if name.startswith("x-ratelimit")]


def begun(*_: object) -> list[Any]:
    return [Started(prompt_tokens=7), TokenChunk(text="Hello"), TokenChunk(text=" you"), HANG]


def until(client: openai.OpenAI) -> None:
    """Ask until there is a place."""
    deadline = time.monotonic() + 60
    while True:
        try:
            ask(client)
            return
        except openai.RateLimitError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize("call", CALLS)
def test_a_stream_holds_its_place_until_its_client_goes_away(server: ApiServer, clock: Clock, call: str) -> None:
    client = limited(server, concurrent_generations=1, tokens_per_minute=100)
    usual, server.engine.generate = server.engine.generate, begun
    stream = ask(client, call, stream=True).parse()
    assert next(event for event in stream if " you" in str(event))
    server.engine.generate = usual
    with pytest.raises(openai.RateLimitError) as error:
        ask(client)
    assert error.value.type == "requests"
    assert "on concurrent requests: Limit 1, Used 1" in error.value.message
    assert error.value.response.headers["retry-after"] == "1"
    ask(limited(server, concurrent_generations=1))
    stream.close()
    until(client)
    # What it had used until then is counted: the prompt, and two pieces.
    assert ask(client).headers["x-ratelimit-remaining-tokens"] == str(100 - 9 - 2 * TOKENS)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_gives_its_place_back(server: ApiServer, clock: Clock, call: str, stream: bool) -> None:
    client = limited(server, concurrent_generations=1)
    for _ in range(3):
        answer = ask(client, call, stream=stream)
        if stream:
            assert list(answer.parse())
            until(client)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nothing", messages=SAID)
    ask(client, call)


def test_jobs_per_day(server: ApiServer, training_file: str) -> None:
    key = server.new_key(jobs_per_day=2)
    client = server.client(api_key=key, max_retries=2)
    made = [client.fine_tuning.jobs.create(model=BASE, training_file=training_file, seed=seed).id for seed in (1, 2)]
    with pytest.raises(openai.RateLimitError) as error:
        client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=training_file)
    assert (error.value.type, error.value.code) == ("invalid_request_error", "daily_rate_limit_exceeded")
    assert "reached the maximum of 2 fine-tuning requests per day for the model 'gpt-4o-mini-2024-07-18'" in error.value.message
    headers = error.value.response.headers
    assert headers["x-should-retry"] == "false"
    assert error.value.response.request.headers["x-stainless-retry-count"] == "0"
    assert 86000 < int(headers["retry-after"]) <= 86400
    # A lost answer is still found: it is the same job, not a third one.
    with server.http(key, **{"x-stainless-retry-count": "1"}) as http:
        again = http.post("/v1/fine_tuning/jobs", json={"model": BASE, "training_file": training_file, "seed": 2})
    assert again.json()["id"] == made[1]
    assert server.client(api_key=server.new_key()).fine_tuning.jobs.create(model=BASE, training_file=training_file).id


@pytest.fixture(scope="module")
def modest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server whose settings limit every key that has no limit of its own."""
    server = ApiServer(tmp_path_factory.mktemp("modest") / "data", requests_per_minute=1, jobs_per_day=1)
    yield server
    server.stop()


def test_the_settings_hold_for_keys_without_limits_of_their_own(modest: ApiServer, rows: bytes) -> None:
    for client in (modest.client(), limited(modest)):
        ask(client)
        with pytest.raises(openai.RateLimitError):
            ask(client)
    free = limited(modest, requests_per_minute=0, jobs_per_day=0)
    for _ in range(3):
        ask(free)
    file = free.files.create(file=("rows.jsonl", rows), purpose="fine-tune").id
    assert len({free.fine_tuning.jobs.create(model=BASE, training_file=file).id for _ in range(3)}) == 3
    bound = limited(modest)
    bound.fine_tuning.jobs.create(model=BASE, training_file=file)
    with pytest.raises(openai.RateLimitError):
        bound.fine_tuning.jobs.create(model=BASE, training_file=file)
