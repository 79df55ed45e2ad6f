"""Several generations at once, as one stream of replies; and the choice between a streamed and a whole answer.

What it does: runs the requests of one API call (``n`` choices, several prompts) against the engine together, waits for
the first reply before the status line is sent, stops everything when the client goes away. What it does not: know the
wire form (``answers.py``). Called by ``routes/chat.py`` and ``routes/completions.py``.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from fastapi import Request, Response

from luthier.api.engine_client import EngineClient
from luthier.api.rate_limits import Turn
from luthier.api.replies import JsonReply
from luthier.api.sse import EventStream
from luthier.core.engine_messages import EngineReply, Finished, Generate
from luthier.core.errors import Unavailable
from luthier.core.generation import FinishReason

T = TypeVar("T")
Numbered = tuple[int, EngineReply]
Replies = AsyncGenerator[Numbered, None]
Keep = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Takes a complete answer before it is sent, or before its stream ends, and returns it as it is sent."""


class AnswerForm(Protocol):
    """How one endpoint shows its answer."""

    @property
    def per_prompt(self) -> int:
        """Answers generated for each prompt."""
        ...

    def whole(self, replies: Sequence[Numbered]) -> dict[str, Any]:
        """The complete answer."""
        ...

    def streamed(self, replies: Replies) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a streamed answer."""
        ...


async def run(engine: EngineClient, requests: Sequence[Generate], turn: Turn | None = None, per_prompt: int = 1) -> Replies:
    """All replies, each with the index of its request, as they come. Closing it aborts what still runs.

    Args:
        turn: counts the tokens.
        per_prompt: how many of the requests, one after another, have the same prompt.

    Raises:
        LuthierError: the first request that fails fails all.
    """
    queue: asyncio.Queue[tuple[int, EngineReply | None]] = asyncio.Queue()
    tasks = [asyncio.create_task(_pump(engine, request, index, queue)) for index, request in enumerate(requests)]
    running = len(tasks)
    try:
        while running:
            index, reply = await queue.get()
            if reply is None:
                running -= 1
                await tasks[index]
                continue
            if isinstance(reply, Finished) and reply.finish_reason is FinishReason.ABORTED:
                raise Unavailable("The generation was interrupted. Please retry your request.")
            if turn is not None:
                turn.take(index, reply, per_prompt)
            yield index, reply
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(engine: EngineClient, request: Generate, index: int, queue: asyncio.Queue[tuple[int, EngineReply | None]]) -> None:
    try:
        async with contextlib.aclosing(engine.stream(request)) as replies:
            async for reply in replies:
                queue.put_nowait((index, reply))
    finally:
        queue.put_nowait((index, None))


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled when the client goes away. The body must have been read.

    Raises:
        Unavailable: the client went away (nobody is left to read this).
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_until_gone(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Unavailable("The client went away.")
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _first(replies: Replies) -> Numbered:
    return await anext(replies)


async def _all(replies: Replies) -> list[Numbered]:
    return [numbered async for numbered in replies]


async def _resumed(first: Numbered, rest: Replies) -> Replies:
    yield first
    async for numbered in rest:
        yield numbered


async def _noted(replies: Replies, seen: list[Numbered]) -> Replies:
    async for numbered in replies:
        seen.append(numbered)
        yield numbered


async def _streamed_and_kept(form: AnswerForm, replies: Replies, keep: Keep) -> AsyncGenerator[dict[str, Any], None]:
    seen: list[Numbered] = []
    async for event in form.streamed(_noted(replies, seen)):
        yield event
    await keep(form.whole(seen))


async def answer(
    request: Request,
    engine: EngineClient,
    requests: Sequence[Generate],
    form: AnswerForm,
    *,
    turn: Turn,
    stream: bool,
    keep: Keep | None = None,
) -> Response:
    """Generate and answer; ``turn`` counts the tokens, ``keep`` gets the answer once it is complete, streamed or not.

    Raises:
        LuthierError: anything that goes wrong before the first reply, or, for a whole answer, before the last.
    """
    replies = run(engine, requests, turn, form.per_prompt)
    if stream:
        resumed = _resumed(await while_connected(request, _first(replies)), replies)
        return EventStream(form.streamed(resumed) if keep is None else _streamed_and_kept(form, resumed, keep), replies)
    async with contextlib.aclosing(replies):
        whole = form.whole(await while_connected(request, _all(replies)))
    return JsonReply(whole if keep is None else await keep(whole))
