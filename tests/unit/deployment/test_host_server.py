"""The server in this process, over a fake model whose answers never end by themselves."""

import asyncio
import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from luthier.chat.renderer import Renderer
from luthier.core.engine_messages import (
    Done,
    Failed,
    Finished,
    Generate,
    HostStatus,
    Load,
    Loaded,
    Render,
    RenderedTokens,
    Score,
    Scores,
    Started,
    Status,
    TokenChunk,
    Unload,
    decode,
    decode_request,
    encode,
)
from luthier.core.errors import AuthenticationFailed, InvalidRequest, NotFound, Unavailable
from luthier.core.generation import FinishReason, ModelTarget, SamplingParams
from luthier.deployment.host_requests import Desk
from luthier.deployment.host_server import HostServer
from luthier.deployment.model_cache import ModelCache
from luthier.worker.engine_link import EngineLink
from tests.support.engine_sequences import new_engine
from tests.support.fake_model import FakeModel
from tests.support.mini import MINI

SECRET = "right"
ENDLESS = 10**6
TARGET = ModelTarget(name="mini", base_path=str(MINI))
HELLO = ({"role": "user", "content": "Hello"},)
WAIT_SECONDS = 60.0


@dataclass
class Running:
    """A served socket."""

    path: str
    model: FakeModel
    loads: list[Path]
    drain: Callable[[], None]

    @property
    def link(self) -> EngineLink:
        return EngineLink(self.path, SECRET)

    def status(self) -> HostStatus:
        reply = self.link.request(Status(), timeout_seconds=WAIT_SECONDS)
        assert isinstance(reply, HostStatus)
        return reply


@pytest.fixture
def running() -> Iterator[Running]:
    model = FakeModel(vocab_size=8192, max_length=ENDLESS)
    # The marks come first in the vocabulary: no answer ends by itself.
    model.table[:, :32] = -30.0
    loads: list[Path] = []

    def load(folder: Path) -> FakeModel:
        loads.append(folder)
        return model

    engine = new_engine()
    cache = ModelCache(engine, load_model=load, load_renderer=Renderer.load, max_context_tokens=ENDLESS)
    listening: Future[tuple[HostServer, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    with tempfile.TemporaryDirectory(prefix="lut") as folder:
        path = Path(folder) / "engine.sock"

        async def serve() -> None:
            server = HostServer(engine, Desk(engine, cache, num_threads=1), secret=SECRET)
            ended = asyncio.Event()
            async with await server.listen(path):
                listening.set_result((server, asyncio.get_running_loop(), ended))
                await ended.wait()

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        engine.start()
        server, loop, ended = listening.result(WAIT_SECONDS)
        yield Running(str(path), model, loads, lambda: asyncio.run_coroutine_threadsafe(server.drain(0.0), loop).result(WAIT_SECONDS))
        engine.stop(WAIT_SECONDS)
        loop.call_soon_threadsafe(ended.set)
        thread.join(WAIT_SECONDS)


def _endless(**sampling: object) -> Generate:
    return Generate(target=TARGET, sampling=SamplingParams(**sampling), messages=HELLO)  # type: ignore[arg-type]


def _echoing(*, prompt: str | None = None, token_ids: tuple[int, ...] = (40, 41)) -> Generate:
    sampling = SamplingParams(max_tokens=0, top_logprobs=2)
    return Generate(target=TARGET, sampling=sampling, echo=True, prompt=prompt, token_ids=None if prompt else token_ids)


def test_a_closed_connection_aborts_its_generation_and_frees_the_model(running: Running) -> None:
    replies = running.link.replies(_endless(), timeout_seconds=WAIT_SECONDS)
    while not isinstance(next(replies), TokenChunk):
        pass
    assert running.status().active == 1
    replies.close()
    while running.status().active:
        pass
    _assert_nothing_is_in_use(running)


@pytest.mark.parametrize("request_kind", ["finished", "empty", "refused", "broken", "echoed", "echo_broken", "scored", "loaded"])
def test_every_end_of_a_request_frees_its_model(running: Running, request_kind: str) -> None:
    conversation = (*HELLO, {"role": "assistant", "content": "Hi"})
    if request_kind == "finished":
        running.link.generate(_endless(max_tokens=3))
    elif request_kind == "empty":
        running.link.generate(_endless(max_tokens=0))
    elif request_kind == "refused":
        with pytest.raises(InvalidRequest):
            running.link.generate(Generate(target=TARGET, sampling=SamplingParams(), token_ids=(-1,)))
    elif request_kind == "broken":
        running.model.break_next_decode = True
        with pytest.raises(Unavailable):
            running.link.generate(_endless(max_tokens=3))
    elif request_kind == "echoed":
        running.link.generate(_echoing())
    elif request_kind == "echo_broken":
        running.model.table.fill_(float("nan"))
        with pytest.raises(Unavailable, match="not finite"):
            running.link.generate(_echoing())
        running.model.table.zero_()
    elif request_kind == "scored":
        running.link.request(Score(target=TARGET, conversations=(conversation,), max_length=64))
    else:
        running.link.request(Load(target=TARGET))
    _assert_nothing_is_in_use(running)


def test_a_prompt_is_given_back_with_the_probability_of_each_of_its_tokens(running: Running) -> None:
    renderer = Renderer.load(MINI)
    ids = renderer.tokenizer.encode("Good morning to you")
    started, finished = list(running.link.replies(_echoing(prompt="Good morning to you"), timeout_seconds=WAIT_SECONDS))
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    assert (finished.finish_reason, finished.completion_tokens) == (FinishReason.LENGTH, 0)
    assert started.echo is not None
    assert started.echo.text == "".join(t.text for t in started.echo.tokens) == "Good morning to you"
    assert [t.id for t in started.echo.tokens] == ids
    columns = torch.arange(len(ids) - 1)
    logits = running.model.logits_at(torch.tensor([ids]), torch.tensor([len(ids)]), torch.zeros_like(columns), columns)
    expected = torch.log_softmax(logits.double(), dim=-1)[columns, torch.tensor(ids[1:])].tolist()
    assert [t.logprob for t in started.echo.tokens[1:]] == pytest.approx(expected)
    assert [len(t.top) for t in started.echo.tokens] == [0] + [2] * len(columns)


def test_a_caller_who_leaves_while_a_prompt_is_scored_frees_the_model(running: Running) -> None:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(running.path)
    connection.sendall(encode(_echoing(token_ids=(40,) * 2000), secret=SECRET))
    connection.close()
    _assert_nothing_is_in_use(running)
    assert running.status().active == 0


def _assert_nothing_is_in_use(running: Running) -> None:
    """Only a model that nobody uses is forgotten, and only a forgotten one is loaded again."""
    running.status()
    before = len(running.loads)
    assert running.link.request(Unload(name="mini")) == Done()
    running.status()
    running.link.request(Load(target=TARGET))
    assert len(running.loads) == before + 1


def test_other_requests_are_answered_while_an_answer_is_under_way(running: Running) -> None:
    replies = running.link.replies(_endless(), timeout_seconds=WAIT_SECONDS)
    next(replies)
    text, _, finished = running.link.generate(_endless(max_tokens=5))
    assert finished.completion_tokens <= 5
    assert text
    conversations = tuple(({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello " * n}) for n in range(1, 40))
    scores = running.link.request(Score(target=TARGET, conversations=conversations, max_length=64), timeout_seconds=WAIT_SECONDS)
    assert isinstance(scores, Scores)
    assert len(scores.entries) == 39
    assert set(scores.entries[0]) == {"loss_sum", "num_tokens", "num_correct"}
    assert isinstance(next(replies), TokenChunk)
    assert running.status().active == 1
    replies.close()


def test_loads_of_one_model_at_once_load_it_once(running: Running) -> None:
    answers: list[object] = []
    threads = [threading.Thread(target=lambda: answers.append(running.link.request(Load(target=TARGET)))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert len(answers) == 6
    assert all(isinstance(a, Loaded) and a.bytes > 10_000_000 for a in answers)
    assert len(running.loads) == 1


def test_render_shows_tokens_without_loading_weights(running: Running) -> None:
    reply = running.link.request(Render(target=TARGET, messages=HELLO))
    assert isinstance(reply, RenderedTokens)
    assert "".join(t["text"] for t in reply.tokens) == "<|user|>Hello<|end|><|assistant|>"
    whole = (*HELLO, {"role": "assistant", "content": "Bonjour"})
    reply = running.link.request(Render(target=TARGET, messages=whole, add_generation_prompt=False))
    assert isinstance(reply, RenderedTokens)
    assert any(t["kind"] == "trained" for t in reply.tokens)
    assert running.loads == []


def test_render_counts_the_tokens_that_generation_reads(running: Running) -> None:
    tools = ({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}},)
    counts: set[int] = set()
    for offered in ((), tools):
        reply = running.link.request(Render(target=TARGET, messages=HELLO, tools=offered))
        assert isinstance(reply, RenderedTokens)
        _, _, finished = running.link.generate(
            Generate(target=TARGET, sampling=SamplingParams(max_tokens=1), messages=HELLO, tools=offered)
        )
        assert len(reply.tokens) == finished.prompt_tokens
        counts.add(finished.prompt_tokens)
    assert len(counts) == 2


def test_expected_errors_come_back_as_their_class(running: Running) -> None:
    with pytest.raises(NotFound) as caught:
        running.link.request(Load(target=ModelTarget(name="gone", base_path="/nowhere")))
    assert caught.value.code == "model_not_found"
    with pytest.raises(InvalidRequest):
        running.link.request(Score(target=TARGET, conversations=(), max_length=0))
    with pytest.raises(AuthenticationFailed):
        EngineLink(running.path, "wrong").request(Status())


def test_an_unexpected_fault_tells_nothing_of_itself(running: Running) -> None:
    running.model.break_next_decode = True
    with pytest.raises(Unavailable) as caught:
        running.link.generate(_endless(max_tokens=5, temperature=0.0))
    assert caught.value.message == "The server had an error while processing your request."
    assert running.link.generate(_endless(max_tokens=5, temperature=0.0))[2].completion_tokens > 0


def test_while_draining_new_requests_are_refused(running: Running) -> None:
    running.drain()
    with pytest.raises(Unavailable):
        running.link.request(Status())


def _raw(running: Running, line: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAIT_SECONDS)
        connection.connect(running.path)
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(65536):
            answer += data
        return answer


@pytest.mark.parametrize("line", [b"not json\n", b"[]\n", b'{"secret": 5}\n', b'{"secret": "right"}\n', b"\xff\xfe\x00\n"])
def test_malformed_lines_are_answered_and_do_no_harm(running: Running, line: bytes) -> None:
    assert isinstance(decode(_raw(running, line)), Failed)
    assert running.status().active == 0


def test_a_caller_that_leaves_without_a_request_does_no_harm(running: Running) -> None:
    assert _raw(running, b"") == b""
    assert _raw(running, b'{"type": "Sta') == b""
    assert running.status().active == 0


def test_the_socket_is_for_its_owner_only(running: Running) -> None:
    assert Path(running.path).stat().st_mode & 0o777 == 0o600


def test_a_wrong_secret_hides_whether_the_request_was_good() -> None:
    for body in (Status(), Unload(name="x")):
        with pytest.raises(AuthenticationFailed):
            decode_request(encode(body, secret="wröng"), SECRET)
    with pytest.raises(AuthenticationFailed):
        decode_request(encode(Status()), SECRET)
    with pytest.raises(AuthenticationFailed):
        decode_request(b'{"type": "Nonsense"}\n', SECRET)


@pytest.mark.parametrize(
    "plain", [{"type": "Nonsense", "body": {}}, {"type": "Unload", "body": {}}, {"type": "Load", "body": 3}, {"type": "Done", "body": {}}]
)
def test_unknown_requests_are_refused(plain: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        decode_request(json.dumps({**plain, "secret": SECRET}).encode(), SECRET)


def test_a_good_line_is_read() -> None:
    assert decode_request(encode(_endless(seed=3), secret=SECRET), SECRET) == _endless(seed=3)
