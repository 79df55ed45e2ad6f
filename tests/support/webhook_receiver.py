"""A receiver of webhooks in this process: real HTTP on a free port, with scripted answers. Called by tests of webhooks."""

import queue
import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai

from luthier.core.ids import new_webhook_id, new_webhook_secret
from luthier.core.webhooks import EVENT_TYPES, WebhookEndpoint
from tests.support.office import START


def new_endpoint(url: str, **changes: Any) -> WebhookEndpoint:
    """An endpoint that wants everything."""
    values: dict[str, Any] = {
        "id": new_webhook_id(),
        "created_at": START,
        "updated_at": START,
        "name": "mine",
        "url": url,
        "event_types": EVENT_TYPES,
        "secret": new_webhook_secret(),
    }
    return WebhookEndpoint(**{**values, **changes})


@dataclass(frozen=True)
class Received:
    """One request as it came in."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def webhook_id(self) -> str:
        """The ``webhook-id`` header."""
        return self.headers["webhook-id"]

    def unwrap(self, secret: str) -> Any:
        """What the official client makes of it; raises what the client raises."""
        return openai.OpenAI(api_key="sk-none").webhooks.unwrap(self.body, self.headers, secret=secret)


class Receiver:
    """Answers with the statuses in order, the last one for ever; ``hang`` keeps every request waiting until ``let_go``."""

    def __init__(
        self, statuses: Sequence[int] = (200,), *, hang: bool = False, location: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        self.received: queue.Queue[Received] = queue.Queue()
        self._statuses = list(statuses)
        self._released = threading.Event()
        if not hang:
            self._released.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = receiver._statuses.pop(0) if len(receiver._statuses) > 1 else receiver._statuses[0]
                receiver.received.put(Received(self.path, headers, body))
                receiver._released.wait(60)
                self.send_response(status)
                if location:
                    self.send_header("location", location)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook?from=luthier"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def next(self) -> Received:
        """The next request; fails when none comes."""
        return self.received.get(timeout=60)

    def let_go(self) -> None:
        """Answer what waits."""
        self._released.set()

    def stop(self) -> None:
        """Close the port."""
        self.let_go()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
