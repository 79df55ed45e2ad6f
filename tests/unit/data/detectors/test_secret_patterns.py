"""Secrets by their forms: what is one, whole, and what only looks like one. The keys here were made up for these tests."""

import pytest

from luthier.data.detectors.secret_patterns import secret_finder

FIND = secret_finder()
DIGEST = "9f8b3c1d7e5a4f60b2c8d9e1a7f35b64"
MIXED = "aB3xK9mQ7pL2wE5rT8yU1iO4sD6fG0hJ"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJlLW9mLWFubg"
KEY_BODY = "\n".join(["MIIEpAIBAAKCAQEA7Vf" + MIXED + MIXED] * 3)
# Written in two parts, so that nobody takes them for real.
SECRETS = {
    "GitHub token": "ghp" + "_" + MIXED + "zZ9q",
    "GitHub token (fine-grained)": "github_pat" + "_11ABCDEFG0" + MIXED,
    "GitLab token": "glpat" + "-" + "xYz9_kLmN3pQrS7tUv2W",
    "OpenAI key": "sk" + "-proj-" + MIXED + "T3Blbk" + "FJ" + MIXED,
    "OpenAI key (old)": "sk" + "-" + MIXED[:20] + "T3Blbk" + "FJ" + MIXED[:20],
    "Anthropic key": "sk" + "-ant-api03-" + MIXED + "-" + MIXED + "AA",
    "API key": "sk" + "-" + DIGEST,
    "our own key": "sk" + "-luthier-" + MIXED + "aB3xK9mQ",
    "AWS access key": "AKIA" + "Z7Q2M4LX8PWR5TVB",
    "Slack token": "xoxb" + "-581204937712-5812049377120-" + MIXED[:24],
    "Stripe key": "sk_live" + "_" + MIXED + "51Hq",
    "Google key": "AIza" + "Sy" + MIXED + "k",
    "Hugging Face token": "hf" + "_" + "QwErTyUiOpAsDfGhJkLzXcVbNmQwErTyUi",
    "npm token": "npm" + "_" + MIXED + "zZ9q",
    "SendGrid key": "SG" + "." + MIXED[:22] + "." + MIXED + "aB3xK9mQ7pL",
    "Twilio key": "SK" + DIGEST,
    "DigitalOcean token": "dop_v1" + "_" + DIGEST + DIGEST,
    "Telegram bot token": "5839201746" + ":AA" + MIXED + "x",
    "Mailchimp key": DIGEST + "-us" + "14",
    "JSON web token": JWT,
    "private key": f"-----BEGIN RSA {'PRIVATE'} KEY-----\n{KEY_BODY}\n-----END RSA {'PRIVATE'} KEY-----",
    "private key with escaped line ends": f"-----BEGIN {'PRIVATE'} KEY-----\\n{KEY_BODY}\\n-----END {'PRIVATE'} KEY-----",
}
NOT_SECRETS = [
    "the token is ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "use AKIAIOSFODNN7EXAMPLE as in the manual",
    "sk-your-key-here-0000000000000000000000000000",
    "the ask-anything-you-like-about-it-and-it-will-say tool",
    "a task-oriented dialogue",
    "an eyJ is no token, nor is eyJhbGciOiJub25lIn0",
    "ACCOUNTING AND ACADEMICS, SKIING",
    "a password: hunter2",
    "my password is correct horse battery staple",
    "postgres://user:password@localhost/db",
    "https://user:<password>@host/path",
    "see https://example.com/a:b and mail me @ noon",
    "a 3:AAB ratio, BBB:AAA",
    "non-us customers, 0a-us1",
    "hf_transfer is a library, npm_config_cache a variable",
    f"-----BEGIN RSA {'PRIVATE'} KEY----- is how such a file begins",
    "commit 9f8b3c1d7e5a4f60b2c8d9e1a7f35b64aabbccdd",
    "550e8400-e29b-41d4-a716-446655440000",
]


def _found(text: str) -> list[str]:
    assert FIND is not None
    return [text[span.start : span.end] for span in FIND(text)]


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("frame", ["{}", "Use {} for it.", 'key="{}"', "({}), then go on", "clé : {}\nFin"])
def test_a_secret_is_found_whole(secret: str, frame: str) -> None:
    assert set(_found(frame.format(secret))) == {secret}


@pytest.mark.parametrize("text", NOT_SECRETS)
def test_what_looks_like_a_secret_is_none(text: str) -> None:
    assert _found(text) == []


def test_of_an_address_only_the_password_is_the_secret() -> None:
    assert _found("connect to postgres://ann:Tr0ub4dor3@db.mail.org/x") == ["Tr0ub4dor3"]


def test_a_secret_key_of_aws_is_found_beside_its_name() -> None:
    secret = MIXED + "aB3xK9/Q"
    assert _found(f"aws_secret_access_key = '{secret}'") == [secret]
    assert _found(f"some text = '{secret}'") == []


@pytest.mark.parametrize("piece", ["eyJ", "sk-", "AKIA ", "://a:", "-----BEGIN PRIVATE KEY-----\n", "aws key '", "SK" + "a" * 31 + " "])
def test_a_hostile_text_has_no_secret_and_ends(piece: str) -> None:
    assert _found(piece * (300_000 // len(piece))) == []
