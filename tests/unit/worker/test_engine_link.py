"""The link against a scripted socket."""

import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from luthier.core.engine_messages import (
    Done,
    EngineReply,
    Failed,
    Finished,
    Generate,
    Started,
    Status,
    TokenChunk,
    decode_request,
    encode,
)
from luthier.core.errors import InvalidRequest, LuthierError, Unavailable
from luthier.core.generation import FinishReason, ModelTarget, SamplingParams, TokenLogprob
from luthier.worker.engine_link import EngineLink

ASK = Generate(target=ModelTarget(name="m", base_path="/m"), sampling=SamplingParams(), prompt="é")
FINISHED = Finished(finish_reason=FinishReason.STOP, prompt_tokens=1, completion_tokens=2, first_token_seconds=0.1, total_seconds=0.2)
Script = Callable[[socket.socket, bytes], None]


class Scripted:
    """Accepts one caller at a time and answers as told."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.script: Script = lambda connection, line: None
        self.lines: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as reader:
                self.lines.append(reader.readline())
                try:
                    self.script(connection, self.lines[-1])
                except OSError:
                    continue

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    with tempfile.TemporaryDirectory(prefix="lut") as folder:
        server = Scripted(str(Path(folder) / "s"))
        yield server
        server.close()


def _says(*replies: EngineReply) -> Script:
    return lambda connection, _: connection.sendall(b"".join(encode(r) for r in replies))


def test_a_request_carries_the_secret_and_returns_the_last_reply(scripted: Scripted) -> None:
    scripted.script = _says(Done())
    assert EngineLink(scripted.path, "s3").request(Status()) == Done()
    assert decode_request(scripted.lines[0], "s3") == Status()


def test_an_answer_is_put_together_however_its_bytes_arrive(scripted: Scripted) -> None:
    token = TokenLogprob(id=1, text="é", bytes=(195, 169), logprob=-0.5)
    replies = [Started(prompt_tokens=1), TokenChunk(text="é"), TokenChunk(text="!", tokens=(token,)), FINISHED]
    data = b"".join(encode(r) for r in replies)

    def dribble(connection: socket.socket, _: bytes) -> None:
        for i in range(0, len(data), 3):
            connection.sendall(data[i : i + 3])

    scripted.script = dribble
    assert EngineLink(scripted.path, "").generate(ASK) == ("é!", [token], FINISHED)


@pytest.mark.parametrize(("kind", "cls"), [("InvalidRequest", InvalidRequest), ("Nonsense", Unavailable), ("annotations", Unavailable)])
def test_a_failure_is_raised_as_the_class_it_names(scripted: Scripted, kind: str, cls: type[LuthierError]) -> None:
    scripted.script = _says(Started(prompt_tokens=1), Failed(kind=kind, message="no", code="c", param="p"))
    with pytest.raises(cls) as caught:
        EngineLink(scripted.path, "").generate(ASK)
    assert (caught.value.message, caught.value.code, caught.value.param) == ("no", "c", "p")


def test_a_host_that_goes_away_is_unavailable(scripted: Scripted) -> None:
    scripted.script = _says(Started(prompt_tokens=1), TokenChunk(text="half"))
    with pytest.raises(Unavailable, match="went away"):
        EngineLink(scripted.path, "").generate(ASK)


def test_no_host_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        EngineLink(str(tmp_path / "none"), "").request(Status())


def test_the_time_limit_holds_for_the_whole_answer_not_for_each_piece(scripted: Scripted) -> None:
    ended = threading.Event()

    def drip(connection: socket.socket, _: bytes) -> None:
        while not ended.wait(0.02):
            connection.sendall(encode(TokenChunk(text=".")))

    scripted.script = drip
    with pytest.raises(Unavailable, match=r"within 0\.3 seconds"):
        EngineLink(scripted.path, "").generate(ASK, timeout_seconds=0.3)
    ended.set()


def test_closing_the_replies_early_closes_the_connection(scripted: Scripted) -> None:
    closed = threading.Event()

    def until_closed(connection: socket.socket, _: bytes) -> None:
        connection.sendall(encode(Started(prompt_tokens=1)))
        if connection.recv(1) == b"":
            closed.set()

    scripted.script = until_closed
    replies = EngineLink(scripted.path, "").replies(ASK)
    next(replies)
    replies.close()
    assert closed.wait(20)
