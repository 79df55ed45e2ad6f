"""The edge between the commands and a terminal: what the terminal cannot show, and what the server refuses.

Called by ``cli/main.py`` and by the commands that print a job.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from luthier.cli.exit_codes import InvalidData
from luthier.core.errors import AuthenticationFailed, LuthierError, NotFound, PermissionRefused, TooManyRequests, Unavailable

_MISSING_ENDPOINT = "Invalid URL ("
_BY_STATUS: dict[int, type[LuthierError]] = {
    400: InvalidData,
    401: AuthenticationFailed,
    403: PermissionRefused,
    404: NotFound,
    413: InvalidData,
    415: InvalidData,
    422: InvalidData,
    429: TooManyRequests,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


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
        return _refusal(error.status_code, error.body, error.message)
    if isinstance(error, openai.APIConnectionError):
        url = error.request.url
        where = f"{url.scheme}://{url.netloc.decode()}"
        if isinstance(error, openai.APITimeoutError):
            return Unavailable(f"The server at {where} did not answer in time. Look at it with: luthier doctor")
        return Unavailable(f"No server answers at {where}. Start one with: luthier serve")
    return LuthierError(str(error))


def _refusal(status: int, answer: object, fallback: str) -> LuthierError:
    body = answer if isinstance(answer, dict) else {}
    message = str(body.get("message") or fallback)
    if status == 404 and message.startswith(_MISSING_ENDPOINT):
        what = message.removeprefix(_MISSING_ENDPOINT).rstrip(")")
        return NotFound(f"This server does not have {what}. Its version may be older than this command's; see luthier doctor")
    return _BY_STATUS.get(status, LuthierError)(message, code=body.get("code"), param=body.get("param"))
