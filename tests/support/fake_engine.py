"""A scripted engine host: a real Unix-socket server that speaks ``core.engine_messages`` and computes nothing.

It records the requests it gets and the connections that were closed before their last reply. Called by contract tests
and by the unit tests of ``api``.
"""

import asyncio
import inspect
import json
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from luthier.core.engine_messages import (
    Done,
    EngineReply,
    EngineRequest,
    Failed,
    Finished,
    Generate,
    HostStatus,
    Loaded,
    PredictionTrace,
    Render,
    RenderedTokens,
    Started,
    Status,
    TokenChunk,
    TracePrediction,
    Unload,
    decode_request,
    encode,
    is_last,
)
from luthier.core.errors import AuthenticationFailed
from luthier.core.generation import EchoedPrompt, FinishReason, TokenLogprob, TopToken
from tests.support.sample_trace import sample_trace

SECRET = "fake-secret"
HANG = object()
"""In a script: say nothing more until the caller goes away."""
HANG_UP = object()
"""In a script: close the connection without a last reply."""
BASE = "luthier-mini"

Step = Any
"""A reply, ``HANG``, ``HANG_UP``, or a coroutine function to wait for."""
Script = Callable[[EngineRequest], Iterable[Step]]


def token(text: str, logprob: float = -0.5, num_top: int = 0) -> TokenLogprob:
    """A token with ``num_top`` alternatives, itself the best of them."""
    data = tuple(text.encode())
    top = tuple(TopToken(id=i, text=text if not i else f"alt{i}", bytes=data, logprob=logprob - i) for i in range(num_top))
    return TokenLogprob(id=0, text=text, bytes=data, logprob=logprob, top=top)


def finished(*, prompt_tokens: int = 7, completion_tokens: int = 3, reason: FinishReason = FinishReason.STOP) -> Finished:
    """The end of an answer."""
    return Finished(
        finish_reason=reason,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        first_token_seconds=0.01,
        total_seconds=0.02,
    )


def _echo(request: Generate) -> EchoedPrompt | None:
    """The prompt, a token for each of its words (``"a b"`` is ``a`` and `` b``) or for each of its ids."""
    if not request.echo:
        return None
    words = re.findall(r" ?[^ ]+", request.prompt or "") if request.token_ids is None else [f"<{i}>" for i in request.token_ids]
    top = request.sampling.top_logprobs
    return EchoedPrompt(text="".join(words), tokens=() if top is None else tuple(token(word, -2.0, top) for word in words))


def saying(*pieces: str, **ending: Any) -> Callable[[Generate], list[EngineReply]]:
    """A script for one generation: these pieces, with log-probabilities when asked for."""

    def script(request: Generate) -> list[EngineReply]:
        top = request.sampling.top_logprobs
        chunks = [TokenChunk(text=p, tokens=() if top is None else (token(p, num_top=top),)) for p in pieces]
        return [Started(prompt_tokens=7, echo=_echo(request)), *chunks, finished(**{"completion_tokens": len(pieces) + 1, **ending})]

    return script


class FakeEngine:
    """The server, on a thread of its own."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fake-engine-"))
        self.socket_path = str(self._folder / "engine.sock")
        self.secret = SECRET
        self.requests: list[EngineRequest] = []
        self.refused = 0
        self.aborted = threading.Semaphore(0)
        """Released once for each connection that was closed before its last reply."""
        self.loaded: tuple[str, ...] = (BASE,)
        self.generate: Callable[[Generate], Iterable[Step]] = saying("Hello", " world", "!")
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake-engine", daemon=True)

    def start(self) -> "FakeEngine":
        """Listen."""
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def stop(self) -> None:
        """Close everything."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def generations(self) -> list[Generate]:
        """The generations that were asked for."""
        return [r for r in self.requests if isinstance(r, Generate)]

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_unix_server(self._serve, self.socket_path))
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
            self._loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        self._loop.close()

    def _script(self, request: EngineRequest) -> Iterable[Step]:
        if isinstance(request, Generate):
            return self.generate(request)
        if isinstance(request, Status):
            return [HostStatus(loaded=self.loaded, active=0, resident_bytes=1, num_threads=1, uptime_seconds=1.0)]
        if isinstance(request, Unload):
            return [Done()]
        if isinstance(request, Render):
            words = " ".join(m["content"] for m in request.messages).split()
            entry = {"bytes": [], "kind": "context", "role": "user", "message": 0}
            return [RenderedTokens(tokens=tuple({"id": i, "text": w, **entry} for i, w in enumerate(words)))]
        if isinstance(request, TracePrediction):
            return [PredictionTrace(text=json.dumps(sample_trace().to_dict()))]
        return [Loaded(bytes=1, seconds=0.1)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = decode_request(await reader.readline(), self.secret)
        except AuthenticationFailed as error:
            self.refused += 1
            writer.write(encode(Failed(kind="AuthenticationFailed", message=error.message)))
            writer.close()
            return
        self.requests.append(request)
        for step in self._script(request):
            if step is HANG:
                await reader.read()
                self.aborted.release()
                break
            if step is HANG_UP:
                break
            if inspect.iscoroutinefunction(step):
                await step()
                continue
            try:
                writer.write(encode(step))
                await writer.drain()
            except ConnectionError:  # the caller left before this reply
                self.aborted.release()
                break
            if is_last(step):
                break
        writer.close()
