"""The edge between the commands and a terminal: what the terminal cannot show, and what the server refuses.

Called by the commands that print a job.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from luthier.core.errors import InvalidRequest, LuthierError, NotFound, Unavailable


def printable_output() -> None:
    """A terminal without UTF-8 gets "?" for what it cannot show, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


@contextmanager
def client_errors() -> Iterator[None]:
    """Turn the official client's errors into one sentence of ours.

    Raises:
        LuthierError: instead of an ``openai.APIError``.
    """
    import openai

    try:
        yield
    except openai.APIError as error:
        raise sentence_of(error) from error


def sentence_of(error: Exception) -> LuthierError:
    """Our own error for one of the client's."""
    import openai

    if isinstance(error, openai.APIStatusError):
        body = error.body if isinstance(error.body, dict) else {}
        message = str(body.get("message") or error.message)
        return NotFound(message) if error.status_code == 404 else InvalidRequest(message)
    if isinstance(error, openai.APIConnectionError):
        url = error.request.url
        return Unavailable(f"No server answers at {url.scheme}://{url.netloc.decode()}. Start one with: luthier serve")
    return InvalidRequest(str(error))
