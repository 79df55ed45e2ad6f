"""One attempt: where it connects, what counts as accepted, and every way in which it may fail, as a value."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from luthier.api.webhooks.sender import Attempt, WebhookSender, look_up
from luthier.core.ids import new_webhook_event_id, new_webhook_id
from luthier.core.settings import Settings
from luthier.core.webhooks import EVENT_TYPES, WebhookEvent
from tests.support.office import START
from tests.support.webhook_receiver import Receiver, new_endpoint

STRICT = Settings()
OPEN = Settings(webhooks_allow_http=True, webhooks_allow_private=True)
EVENT = WebhookEvent(id=new_webhook_event_id(), type=EVENT_TYPES[0], created_at=START, object_id="ftjob-1")
NAMED = "https://hooks.example.com/in?x=1"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


class Recorder(httpx2.AsyncBaseTransport):
    """Takes requests instead of the network; the first ``refusals`` find nobody."""

    def __init__(self, refusals: int = 0) -> None:
        self.requests: list[httpx2.Request] = []
        self._refusals = refusals

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if len(self.requests) <= self._refusals:
            raise httpx2.ConnectError("refused")
        return httpx2.Response(204)


def resolving(*answers: Sequence[str]) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    """Each look-up takes the next answer; one too many fails the test."""
    left = list(answers)

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return left.pop(0)

    return resolve


def send(settings: Settings, url: str, **options: Any) -> Attempt:
    return asyncio.run(WebhookSender(settings, **options).send(new_endpoint(url), EVENT, new_webhook_id()))


def test_the_receiver_gets_what_was_signed(receiver: Receiver) -> None:
    endpoint, webhook_id = new_endpoint(receiver.url), new_webhook_id()
    attempt = asyncio.run(WebhookSender(OPEN).send(endpoint, EVENT, webhook_id))
    assert (attempt.accepted, attempt.status_code) == (True, 200)
    got = receiver.next()
    assert (got.path, got.webhook_id, got.headers["host"]) == ("/hook?from=luthier", webhook_id, f"127.0.0.1:{receiver.port}")
    assert got.unwrap(endpoint.secret).data.id == "ftjob-1"


def test_it_connects_to_the_number_that_was_checked_and_asks_once() -> None:
    recorder = Recorder()
    # A second look-up would get the other answer: that is how rebinding works.
    resolve = resolving(["93.184.216.34"], ["127.0.0.1"])
    assert send(STRICT, NAMED, resolve=resolve, transport=lambda: recorder).accepted
    (request,) = recorder.requests
    assert (str(request.url), request.headers["host"]) == ("https://93.184.216.34/in?x=1", "hooks.example.com")
    assert request.extensions["sni_hostname"] == "hooks.example.com"
    assert request.headers.get_list("host") == ["hooks.example.com"]


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["169.254.169.254"], ["::ffff:10.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["::1", "93.184.216.34"]]
)
def test_a_name_that_leads_inside_is_not_connected_to(addresses: list[str]) -> None:
    recorder = Recorder()
    attempt = send(STRICT, NAMED, resolve=resolving(addresses), transport=lambda: recorder)
    assert (attempt.status_code, recorder.requests) == (None, [])
    assert "not on the public internet" in str(attempt)


def test_rules_that_have_become_stricter_hold_for_old_endpoints(receiver: Receiver) -> None:
    attempt = send(STRICT, receiver.url)
    assert attempt.status_code is None
    assert receiver.received.empty()


def test_the_next_address_is_tried_when_nobody_listens_at_the_first() -> None:
    recorder = Recorder(refusals=1)
    attempt = send(STRICT, NAMED, resolve=resolving(["2606:4700:4700::1111", "93.184.216.34"]), transport=lambda: recorder)
    assert attempt.accepted
    assert [request.url.host for request in recorder.requests] == ["2606:4700:4700::1111", "93.184.216.34"]


def test_nobody_listens_anywhere() -> None:
    recorder = Recorder(refusals=9)
    attempt = send(STRICT, NAMED, resolve=resolving(["93.184.216.34"] * 9), transport=lambda: recorder)
    assert attempt.status_code is None
    assert "ConnectError" in str(attempt)
    assert len(recorder.requests) == 4


@pytest.mark.parametrize(
    ("status", "accepted"), [(200, True), (204, True), (299, True), (301, False), (307, False), (400, False), (410, False), (500, False)]
)
def test_only_2xx_accepts_and_no_redirect_is_followed(receiver: Receiver, status: int, accepted: bool) -> None:
    moved = Receiver([status], location=receiver.url)
    try:
        attempt = send(OPEN, moved.url)
    finally:
        moved.stop()
    assert (attempt.status_code, attempt.accepted) == (status, accepted)
    assert receiver.received.empty()


def test_an_endpoint_that_hangs_ends_with_the_attempts_time() -> None:
    receiver = Receiver(hang=True)
    try:
        attempt = send(OPEN, receiver.url, attempt_seconds=0.1)
        assert receiver.next().body
    finally:
        receiver.stop()
    assert str(attempt) == "it did not answer within 0.1 seconds"


def test_a_name_server_that_hangs_ends_with_the_attempts_time() -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    assert "did not answer" in str(send(STRICT, NAMED, resolve=resolve, attempt_seconds=0.05))


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n" + b"x" * 1000, b"nonsense\r\n\r\n", b""])
def test_endless_and_broken_answers(answer: bytes) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(answer)
            if answer.startswith(b"HTTP"):
                peer.settimeout(30)
                while peer.recv(65536):  # until the sender hangs up: it does not read on
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    attempt = send(OPEN, f"http://127.0.0.1:{listener.getsockname()[1]}/")
    thread.join(30)
    listener.close()
    assert not thread.is_alive()
    assert attempt.accepted is answer.startswith(b"HTTP")


def test_proxies_of_the_environment_are_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert send(OPEN, receiver.url).accepted


def test_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asyncio.run(look_up("127.0.0.1", 80)) == ("127.0.0.1",)
    assert asyncio.run(look_up("::1", 80)) == ("::1",)

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    attempt = send(STRICT, NAMED)
    assert attempt.status_code is None
    assert "could not be resolved" in str(attempt)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a self-signed certificate for hooks.example.com in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    names = ["-subj", "/CN=hooks.example.com", "-addext", "subjectAltName=DNS:hooks.example.com"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run([openssl, "req", *kind, *files, *names], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both


@pytest.mark.parametrize(("host", "accepted"), [("hooks.example.com", True), ("other.example.com", False)])
def test_the_certificate_is_checked_for_the_name_and_not_for_the_number(certificate: Path, host: str, accepted: bool) -> None:
    asked: list[str | None] = []
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate)
    server_side.sni_callback = lambda _socket, name, _context: asked.append(name)
    receiver = Receiver(tls=server_side)
    trusting = ssl.create_default_context(cafile=certificate)
    try:
        attempt = send(
            OPEN,
            f"https://{host}:{receiver.port}/",
            resolve=resolving(["127.0.0.1"]),
            transport=lambda: httpx2.AsyncHTTPTransport(verify=trusting, trust_env=False),
        )
    finally:
        receiver.stop()
    assert attempt.accepted is accepted, attempt
    assert asked == [host]
    assert receiver.received.empty() is not accepted
