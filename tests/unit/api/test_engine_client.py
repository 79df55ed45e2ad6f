import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from luthier.api.engine_client import EngineClient
from luthier.api.generations import run
from luthier.core.engine_messages import Failed, Generate, HostStatus, Started, Status, TokenChunk
from luthier.core.errors import AuthenticationFailed, LuthierError, NotFound, Unavailable
from luthier.core.generation import ModelTarget, SamplingParams
from tests.support.fake_engine import HANG, HANG_UP, FakeEngine, saying

ASK = Generate(target=ModelTarget(name="m", base_path="/m"), sampling=SamplingParams(), prompt="x")


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    fake = FakeEngine().start()
    yield fake
    fake.stop()


def client_of(engine: FakeEngine) -> EngineClient:
    return EngineClient(engine.socket_path, engine.secret)


def test_one_request_one_reply(engine: FakeEngine) -> None:
    reply = asyncio.run(client_of(engine).request(Status(), timeout_seconds=10))
    assert isinstance(reply, HostStatus)
    assert engine.requests == [Status()]


def test_a_stream_of_replies(engine: FakeEngine) -> None:
    async def read() -> list[str]:
        return [r.text async for r in client_of(engine).stream(ASK) if isinstance(r, TokenChunk)]

    assert asyncio.run(read()) == ["Hello", " world", "!"]


@pytest.mark.parametrize(("kind", "expected"), [("NotFound", NotFound), ("Unavailable", Unavailable), ("ValueError", LuthierError)])
def test_failures_are_raised_as_their_class(engine: FakeEngine, kind: str, expected: type[LuthierError]) -> None:
    engine.generate = lambda _: [Started(prompt_tokens=1), Failed(kind=kind, message="m", code="c", param="p")]
    with pytest.raises(LuthierError) as error:
        asyncio.run(client_of(engine).request(ASK))
    assert type(error.value) is expected
    assert (error.value.message, error.value.code, error.value.param) == ("m", "c", "p")


def test_a_wrong_secret_is_refused(engine: FakeEngine) -> None:
    with pytest.raises(AuthenticationFailed):
        asyncio.run(EngineClient(engine.socket_path, "wrong").request(Status()))
    assert engine.requests == []


@pytest.mark.parametrize("path", ["/nothing/engine.sock", ""])
def test_no_host_is_unavailable(path: str) -> None:
    with pytest.raises(Unavailable):
        asyncio.run(EngineClient(path, "x").request(Status()))


def test_a_host_that_dies_is_unavailable(engine: FakeEngine) -> None:
    engine.generate = lambda _: [Started(prompt_tokens=1), HANG_UP]
    with pytest.raises(Unavailable):
        asyncio.run(client_of(engine).request(ASK))


def test_a_silent_host_is_unavailable_after_the_time_limit_and_the_connection_closed(engine: FakeEngine) -> None:
    engine.generate = lambda _: [HANG]
    with pytest.raises(Unavailable):
        asyncio.run(client_of(engine).request(ASK, timeout_seconds=0.05))
    assert engine.aborted.acquire(timeout=60)


def test_one_failure_stops_all_generations_of_a_call(engine: FakeEngine) -> None:
    bad = Generate(target=ASK.target, sampling=SamplingParams(), prompt="bad")
    engine.generate = lambda r: [Failed(kind="NotFound", message="m")] if r.prompt == "bad" else [Started(prompt_tokens=1), HANG]

    async def read() -> None:
        async with contextlib.aclosing(run(client_of(engine), [ASK, bad, ASK])) as replies:
            async for _ in replies:
                pass

    with pytest.raises(NotFound):
        asyncio.run(asyncio.wait_for(read(), 20))
    assert engine.aborted.acquire(timeout=60)


def test_generations_of_a_call_run_together(engine: FakeEngine) -> None:
    async def until_all_are_here() -> None:
        while len(engine.requests) < 3:
            await asyncio.sleep(0.001)

    engine.generate = lambda request: [until_all_are_here, *saying("x")(request)]

    async def read() -> set[int]:
        return {index async for index, _ in run(client_of(engine), [ASK] * 3)}

    assert asyncio.run(asyncio.wait_for(read(), 20)) == {0, 1, 2}
