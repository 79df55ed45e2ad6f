"""Finds keys and passwords in a text by their published forms: patterns of the detect-secrets library, and a few that it lacks.

What it does: looks for a fixed beginning (``ghp_``, ``AKIA``) first, and tries a pattern only there, within a limit; so a text without
secrets costs next to nothing, and a hostile one no more than others. Only the library's patterns are used; nothing is ever sent
anywhere to verify it. What it does not: guess from words such as "password" or from randomness, which in chat text is wrong more
often than right; count, show or replace. Called by ``private_values.py`` and ``data/redact.py``.
"""

import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from luthier.data.detectors.private_span import Finder, PrivateKind, Span

_WINDOW = 2048
"""Characters in which a pattern must end."""
_KEY_WINDOW = 16_384
_TRIES = 10_000
"""A text is not searched further for a form once so many of its beginnings led to nothing."""
_REST = re.compile(r"[\w=/+-]*")
_REST_WITH_PARTS = re.compile(r"[\w=/+-]*(?:\.[\w=/+-]+)*")
_WORD_BEFORE = re.compile(r"[A-Za-z0-9_-]")
_MADE_UP = re.compile(r"example|placeholder|redacted|dummy|sample|changeme|your|\.\.\.|x{6}|\*{3}|0123456789|123456789|abcdefgh", re.IGNORECASE)
_NO_PASSWORD = re.compile(r"[<{\[(%$*].*|p(?:ass(?:word|wd|phrase)?|wd|w)|secret|token|user(?:name)?|mot_?de_?passe|mdp|x+|\.+|\d{1,5}", re.IGNORECASE)


class _Form(NamedTuple):
    """One form of secret."""

    name: str
    beginnings: tuple[str, ...]
    patterns: tuple[re.Pattern[str], ...]
    signs: tuple[str, ...] = ()
    """Stand in every text that has one of the beginnings; fewer to look for."""
    group: int = 0
    lead: int = 0
    """Characters that the secret has before its fixed part."""
    whole: bool = True
    """Whether it is a word of its own, so that letters before it are against it and those after it belong to it."""
    is_real: Callable[[str], bool] | None = None
    """A test in place of that for all."""
    rest: re.Pattern[str] = _REST
    """What may follow the pattern's end and is still the secret: the library's patterns often end early."""


# Module and class of the library, name for people, fixed beginnings, signs.
_LIBRARY: tuple[tuple[str, str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("github_token", "GitHubTokenDetector", "GitHub token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), ("_", "gh")),
    (
        *("gitlab_token", "GitLabTokenDetector", "GitLab token"),
        ("glpat-", "gldt-", "glft-", "glsoat-", "glrt-", "glcbt-", "glimt-", "glptt-", "glagent-", "gloas-"),
        ("-", "gl"),
    ),
    ("azure_storage_key", "AzureStorageKeyDetector", "Azure storage key", ("AccountKey=",), ()),
    ("jwt", "JwtTokenDetector", "JSON web token", ("eyJ",), ()),
    ("openai", "OpenAIDetector", "OpenAI key", ("sk-",), ()),
    ("pypi_token", "PypiTokenDetector", "Python package index token", ("pypi-AgE",), ()),
    ("sendgrid", "SendGridDetector", "SendGrid key", ("SG.",), ()),
    ("slack", "SlackDetector", "Slack token", ("xoxa-", "xoxb-", "xoxp-", "xoxo-", "xoxs-", "xoxr-"), ("xox",)),
    ("slack", "SlackDetector", "Slack web hook", ("https://hooks.slack.com/services/",), ()),
    ("square_oauth", "SquareOAuthDetector", "Square secret", ("sq0csp-",), ()),
    ("stripe", "StripeDetector", "Stripe key", ("sk_live_", "rk_live_"), ("k_live_",)),
    ("twilio", "TwilioKeyDetector", "Twilio key", ("AC", "SK"), ()),
)
_OWN = (
    _Form("Anthropic key", ("sk-ant-",), (re.compile(r"sk-ant-[a-z0-9]{2,12}-[\w-]{24,}"),)),
    _Form("API key", ("sk-",), (re.compile(r"sk-(?:[a-z]{2,12}-){0,3}(?=\w*\d)(?=\w*[A-Za-z])[A-Za-z0-9_]{32,}"),)),
    _Form("GitHub token", ("github_pat_",), (re.compile(r"github_pat_\w{40,}"),)),
    _Form("Google key", ("AIza",), (re.compile(r"AIza[\w-]{35}(?![\w-])"),)),
    _Form("Hugging Face token", ("hf_",), (re.compile(r"hf_[A-Za-z0-9]{34,40}(?!\w)"),)),
    _Form("npm token", ("npm_",), (re.compile(r"npm_[A-Za-z0-9]{36}(?!\w)"),)),
    _Form("DigitalOcean token", ("dop_v1_", "doo_v1_", "dor_v1_"), (re.compile(r"do[por]_v1_[a-f0-9]{64}(?!\w)"),), ("_v1_",)),
    _Form("Slack token", ("xapp-", "xoxe-", "xoxe."), (re.compile(r"(?:xapp|xoxe(?:\.xox[bp])?)-\d-[A-Za-z0-9-]{40,}"),)),
    _Form("Telegram bot token", (":AA",), (re.compile(r"\d{10}:AA[\w-]{33}(?![\w-])"),), lead=10),
    _Form("Mailchimp key", ("-us",), (re.compile(r"[0-9a-f]{32}-us\d{1,2}(?!\w)"),), lead=32),
)
_PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_PRIVATE_KEY_END = re.compile(r"-----END (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_PRIVATE_KEY_BODY = re.compile(r"(?:[A-Za-z0-9+/=\s]|\\[nr]|[A-Z][A-Za-z-]+: [^\n]*\n)*")
_LEAST_KEY = 60


def secret_finder() -> Finder | None:
    """Finds secrets; None where the detect-secrets library is not installed."""
    try:
        forms = _forms()
    except ImportError:
        return None

    def find(text: str) -> Iterator[Span]:
        for form in forms:
            for sign in form.signs:
                if sign not in text:
                    break
            else:
                for beginning in form.beginnings:
                    if beginning in text:
                        yield from _of_form(text, form, beginning)
        if "PRIVATE KEY" in text:
            yield from _private_keys(text)

    return find


def _forms() -> tuple[_Form, ...]:
    made = [_library_form(*entry) for entry in _LIBRARY]
    aws: Sequence[re.Pattern[str]] = _plugin("aws", "AWSKeyDetector")().denylist
    made.append(_Form("AWS access key", ("AKIA", "ASIA", "ABIA", "ACCA", "A3T"), (re.compile(aws[0].pattern + r"(?![A-Za-z0-9])"),)))
    made.append(_Form("AWS secret key", ("aws", "AWS", "Aws"), tuple(aws[1:]), group=1, whole=False))
    address: Sequence[re.Pattern[str]] = _plugin("basic_auth", "BasicAuthDetector").denylist
    made.append(_Form("password in an address", ("://",), tuple(address), group=1, whole=False, is_real=_is_password))
    return (*made, *_OWN)


def _plugin(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name)


def _library_form(module: str, plugin: str, name: str, beginnings: tuple[str, ...], signs: tuple[str, ...]) -> _Form:
    found = _plugin(module, plugin)
    if module == "jwt":
        return _Form(name, beginnings, tuple(found.denylist), signs, is_real=found.is_formally_valid, rest=_REST_WITH_PARTS)
    return _Form(name, beginnings, tuple(found.denylist), signs, is_real=_is_hexadecimal if module == "twilio" else None)


def _of_form(text: str, form: _Form, beginning: str) -> Iterator[Span]:
    at = text.find(beginning)
    failed = 0
    while at >= 0 and failed < _TRIES:
        start = at - form.lead
        match = None
        if start >= 0 and not (form.whole and start and _WORD_BEFORE.match(text[start - 1])):
            match = next((match for pattern in form.patterns if (match := pattern.match(text, start, start + _WINDOW))), None)
        if match is None:
            failed += 1
            at = text.find(beginning, at + len(beginning))
            continue
        begin, end = match.span(form.group)
        secret = text[begin:end]
        if form.is_real(secret) if form.is_real else _is_random(secret):
            rest = form.rest.match(text, end, end + _WINDOW) if form.whole else None
            yield Span(PrivateKind.SECRET, begin, end if rest is None else rest.end(), form.name)
        at = text.find(beginning, end)


def _is_random(secret: str) -> bool:
    """Whether it is no stand-in such as ``ghp_xxxxxxxx``: enough different characters, and no words that say so."""
    return not _MADE_UP.search(secret) and len(set(secret[4:])) >= 8


def _is_hexadecimal(secret: str) -> bool:
    return _is_random(secret) and re.fullmatch(r"[0-9a-f]+", secret[2:]) is not None


def _is_password(password: str) -> bool:
    return len(set(password)) > 2 and not _NO_PASSWORD.fullmatch(password) and not _MADE_UP.search(password)


def _private_keys(text: str) -> Iterator[Span]:
    end = 0
    for match in _PRIVATE_KEY.finditer(text):
        if match.start() < end:
            continue
        body = _PRIVATE_KEY_BODY.match(text, match.end(), match.end() + _KEY_WINDOW)
        if body is None or len(body.group()) < _LEAST_KEY or _MADE_UP.search(body.group()[:_LEAST_KEY]):
            continue
        closing = _PRIVATE_KEY_END.match(text, body.end())
        end = closing.end() if closing else body.end()
        yield Span(PrivateKind.SECRET, match.start(), end, "private key")
