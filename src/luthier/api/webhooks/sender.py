"""One attempt: resolve once, check every number, connect to the number that was checked, send, look at the status alone.

What it does: sends one signed event to one endpoint within a few seconds, and says what came of it. What it does not: follow
redirects, read answers, use proxies, keep connections or cookies, or try again (``delivery.py``). Called by ``delivery.py`` and,
for test events, by ``routes/webhooks.py``.
"""

import asyncio
import contextlib
import functools
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from luthier.api.webhooks.addresses import Target, is_public, target_of
from luthier.api.webhooks.wire import event_body, signed_headers
from luthier.core.errors import InvalidRequest
from luthier.core.settings import Settings
from luthier.core.webhooks import WebhookEndpoint, WebhookEvent

if TYPE_CHECKING:
    import httpx2

ATTEMPT_SECONDS = 5.0
"""Longest attempt, from the look-up of the name to the answer's status."""
_CONNECT_SECONDS = 2.0
_MAX_ADDRESSES = 4

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a name and a port to IP addresses; raises ``OSError`` when there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What came of an attempt: a status, or the reason why there is none."""

    status_code: int | None = None
    problem: str = ""

    @property
    def accepted(self) -> bool:
        """True for 2xx only: a redirect is not an acknowledgement."""
        return self.status_code is not None and 200 <= self.status_code <= 299

    def __str__(self) -> str:
        return self.problem if self.status_code is None else f"it answered {self.status_code}"


class WebhookSender:
    """Sends events.

    Args:
        settings: which addresses are allowed.
        clock: Unix seconds, for the signed timestamp.
        resolve: looks names up.
        transport: makes the HTTP transport of one attempt.
        attempt_seconds: longest attempt.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        resolve: Resolve | None = None,
        transport: "Callable[[], httpx2.AsyncBaseTransport] | None" = None,
        attempt_seconds: float = ATTEMPT_SECONDS,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._resolve = look_up if resolve is None else resolve
        self._transport = _new_transport if transport is None else transport
        self._attempt_seconds = attempt_seconds

    async def send(self, endpoint: WebhookEndpoint, event: WebhookEvent, webhook_id: str) -> Attempt:
        """Send an event; every way in which that may fail is a value."""
        # The first time this imports the client and reads the certificates, a quarter of a second: not on the event loop.
        await asyncio.to_thread(_tls)
        import httpx2

        now = self._clock()
        body = event_body(event)
        headers = signed_headers(endpoint.signing_secrets(now), webhook_id, int(now), body)
        try:
            async with asyncio.timeout(self._attempt_seconds):
                target = target_of(endpoint.url, self._settings)
                return await self._post(target, await self._addresses(target), headers, body)
        except InvalidRequest as error:  # the rules may be stricter than when the endpoint was made
            return Attempt(problem=error.message)
        except TimeoutError:
            return Attempt(problem=f"it did not answer within {self._attempt_seconds:g} seconds")
        except httpx2.TransportError as error:
            return Attempt(problem=f"the connection failed ({type(error).__name__})")

    async def _addresses(self, target: Target) -> Sequence[str]:
        try:
            addresses = await self._resolve(target.host, target.port)
        except (OSError, UnicodeError) as error:
            raise InvalidRequest(f"the name {target.host} could not be resolved", param="url") from error
        # All of them: a name that leads to the inside and the outside is a trick.
        if not self._settings.webhooks_allow_private and not all(is_public(address) for address in addresses):
            raise InvalidRequest(f"the name {target.host} leads to an address that is not on the public internet", param="url")
        return addresses[:_MAX_ADDRESSES]

    async def _post(self, target: Target, addresses: Sequence[str], headers: dict[str, str], body: bytes) -> Attempt:
        import httpx2

        last: Exception | None = None
        for address in addresses:
            try:
                return await self._post_to(address, target, headers, body)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                last = error
        return Attempt(problem=f"no connection ({type(last).__name__ if last else 'the name has no address'})")

    async def _post_to(self, address: str, target: Target, headers: dict[str, str], body: bytes) -> Attempt:
        import httpx2

        url = httpx2.URL(target.url)
        timeout = {"connect": _CONNECT_SECONDS, "read": self._attempt_seconds, "write": self._attempt_seconds, "pool": None}
        # To the number, not the name, which may have come to mean another one; the certificate is still checked for the name.
        request = httpx2.Request(
            "POST",
            url.copy_with(host=address),
            headers={"host": url.netloc.decode("ascii"), "accept": "*/*", **headers},
            content=body,
            extensions={"timeout": timeout, "sni_hostname": target.host},
        )
        # A transport for each attempt: no connection that was opened, and checked, for one endpoint serves another.
        async with self._transport() as transport:
            response = await transport.handle_async_request(request)
            await response.aclose()  # unread, however long it is
            return Attempt(status_code=response.status_code)


@functools.cache
def _tls() -> ssl.SSLContext:
    import httpx2

    return httpx2.create_ssl_context()


def _new_transport() -> "httpx2.AsyncBaseTransport":
    import httpx2

    return httpx2.AsyncHTTPTransport(verify=_tls(), trust_env=False)


async def look_up(host: str, port: int) -> Sequence[str]:
    """The system's addresses of a name, in its order of preference; a number is its own address.

    In a thread of its own: a name server that hangs must hold neither the event loop's few threads nor the process's end.

    Raises:
        OSError: no such name, or no answer.
        UnicodeError: a name that cannot be looked up.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Sequence[str]] = loop.create_future()

    def settle(addresses: Sequence[str], error: Exception | None) -> None:
        if answer.done():  # nobody waits any more
            return
        if error is None:
            answer.set_result(addresses)
        else:
            answer.set_exception(error)

    def ask() -> None:
        found: Sequence[str] = ()
        problem: Exception | None = None
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = tuple(dict.fromkeys(str(row[4][0]) for row in rows))
        except (OSError, UnicodeError) as error:
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, found, problem)

    threading.Thread(target=ask, name="webhook-look-up", daemon=True).start()
    return await answer
