"""Signatures are what the official client checks; objects never show a secret unasked."""

import re
import time

import openai
import pytest

from luthier.api.webhooks.wire import endpoint_object, event_body, signed_headers
from luthier.core.ids import new_webhook_event_id, new_webhook_id, new_webhook_secret
from luthier.core.webhooks import EVENT_TYPES, OldSecret, WebhookEvent
from tests.support.office import START
from tests.support.webhook_receiver import Received, new_endpoint

URL = "https://hooks.example.com/in"


def sent(secrets: tuple[str, ...], event_type: str = EVENT_TYPES[0]) -> Received:
    body = event_body(WebhookEvent(id=new_webhook_event_id(), type=event_type, created_at=START, object_id="ftjob-é"))
    return Received("/", signed_headers(secrets, new_webhook_id(), int(time.time()), body), body)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_the_official_client_accepts_what_we_sign(event_type: str) -> None:
    secret = new_webhook_secret()
    event = sent((secret,), event_type).unwrap(secret)
    assert type(event).__name__ == "".join(word.capitalize() for word in re.split(r"[._]", event_type)) + "WebhookEvent"
    assert (event.object, event.type, event.created_at, event.data.id) == ("event", event_type, START, "ftjob-é")
    assert event.id.startswith("evt_")


def test_headers_are_those_of_the_reference() -> None:
    headers = sent((new_webhook_secret(),)).headers
    assert headers["user-agent"] == "OpenAI/1.0"
    assert headers["content-type"] == "application/json"
    assert headers["webhook-signature"].startswith("v1,")
    assert int(headers["webhook-timestamp"]) > START


@pytest.mark.parametrize("part", ["body", "webhook-id", "webhook-timestamp", "secret"])
def test_any_change_breaks_the_signature(part: str) -> None:
    secret = new_webhook_secret()
    good = sent((secret,))
    headers, body = dict(good.headers), good.body
    if part == "body":
        body = body.replace(b"succeeded", b"failed")
    elif part == "webhook-id":
        headers[part] = new_webhook_id()
    elif part == "webhook-timestamp":
        headers[part] = str(int(headers[part]) + 1)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        Received("/", headers, body).unwrap(new_webhook_secret() if part == "secret" else secret)


def test_every_living_secret_signs() -> None:
    old, older, new = (new_webhook_secret() for _ in range(3))
    kept = (OldSecret(secret=old, expires_at=START + 10), OldSecret(secret=older, expires_at=START))
    endpoint = new_endpoint(URL, secret=new, old_secrets=kept)
    assert endpoint.signing_secrets(START) == (new, old)
    delivery = sent(endpoint.signing_secrets(START))
    assert len(delivery.headers["webhook-signature"].split()) == 2
    delivery.unwrap(new)
    delivery.unwrap(old)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        delivery.unwrap(older)
    assert endpoint.signing_secrets(START + 10) == (new,)


def test_an_object_shows_its_secret_only_when_told_to() -> None:
    endpoint = new_endpoint(URL)
    shown = endpoint_object(endpoint)
    assert endpoint.secret not in str(shown)
    assert shown["signing_secret_hint"] == f"whsec_...{endpoint.secret[-4:]}"
    assert endpoint_object(endpoint, with_secret=True) == {**shown, "signing_secret": endpoint.secret}
