"""Starts the generation of a response, dropping the oldest turns where ``truncation: auto`` allows it.

What it does: runs a question until its first reply, so that every refusal comes before the status line; finds how many
turns must go. What it does not: shape the answer (``response_form.py``). Called by ``routes/responses.py``.
"""

from luthier.api.engine_client import EngineClient
from luthier.api.generations import Numbered, Replies, run
from luthier.api.rate_limits import Turn
from luthier.api.response_prompts import Question
from luthier.core.engine_messages import Generate
from luthier.core.errors import InvalidRequest

TOO_LONG = "context_length_exceeded"


async def _started(engine: EngineClient, request: Generate, turn: Turn | None = None) -> tuple[Numbered, Replies]:
    replies = run(engine, [request], turn)
    return await anext(replies), replies


async def _fits(engine: EngineClient, request: Generate) -> bool:
    try:
        _, replies = await _started(engine, request)
    except InvalidRequest as error:
        if error.code == TOO_LONG:
            return False
        raise
    await replies.aclose()
    return True


async def _fewest_dropped(engine: EngineClient, question: Question) -> int:
    """The smallest number of first turns without which the prompt may fit; all but one if only the last can."""
    fewest, most = 1, len(question.turns) - 1
    while fewest < most:
        middle = (fewest + most) // 2
        if await _fits(engine, question.request(middle)):
            most = middle
        else:
            fewest = middle + 1
    return most


async def begin(engine: EngineClient, question: Question, turn: Turn) -> tuple[Numbered, Replies]:
    """The first reply to a question, and the rest, which the caller closes; ``turn`` counts the tokens.

    Raises:
        LuthierError: whatever went wrong before the first reply; a prompt that is too long has OpenAI's words for it.
    """
    try:
        try:
            return await _started(engine, question.request(), turn)
        except InvalidRequest as error:
            if error.code != TOO_LONG or not question.may_truncate or len(question.turns) < 2:
                raise
            return await _started(engine, question.request(await _fewest_dropped(engine, question)), turn)
    except InvalidRequest as error:
        if error.code != TOO_LONG:
            raise
        message = f"Your input exceeds the context window of this model. Please adjust your input and try again. ({error.message})"
        raise InvalidRequest(message, code=TOO_LONG, param="input") from error


async def resumed(first: Numbered, rest: Replies) -> Replies:
    """All replies again, the first included."""
    yield first
    async for numbered in rest:
        yield numbered
