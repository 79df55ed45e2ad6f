"""Finds personal data in a text: e-mail addresses, payment cards, IBANs, IP addresses, national ids and telephone numbers.

What it does: cheap patterns first, then a proof: a checksum, a public address, or a number that the ``phonenumbers`` library knows.
What proves nothing (names, dates, postal codes) is not looked for: precision matters more than recall. What nobody owns (example
domains, private networks, test cards, fictitious numbers) is no finding. What it does not: count or replace. Called by
``private_values.py`` and ``data/redact.py``.
"""

import importlib
import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from luthier.data.detectors.checksums import (
    iban_length,
    is_american_id,
    is_french_id,
    is_iban,
    is_italian_id,
    is_payment_card,
    is_spanish_id,
)
from luthier.data.detectors.private_span import Finder, PrivateKind, Span

# Found by its @, then by what stands before and after, each within a limit: hostile texts cost no more than others.
_LOCAL = re.compile(r"[\w.+-]{1,64}\Z")
_DOMAIN = re.compile(r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.){1,8}([a-zA-Z]{2,24})(?![\w@-])")
_NOBODYS_DOMAIN = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|org|net|edu))?|test|invalid|localhost|local|domain\.com|email\.com|yourdomain\.com)$")
_NOBODYS_NAME = re.compile(r"(?:git|no-?reply|do-?not-?reply|user|username|someone|you|your[._-]?(?:name|email)|name|email|example)", re.IGNORECASE)
_FILE_ENDINGS = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "py", "json", "html", "md", "txt", "pdf"})
_TWO_DIGITS = re.compile(r"\d[^A-Za-z\n]?\d")
"""Where no two digits stand together, no number that is looked for here is."""
# Patterns begin with what is rare, and what must not stand before them is tested afterwards: that makes them several times faster.
_DIGITS = re.compile(r"\d(?:[ .()\u00a0\u202f/-]{0,2}\d){6,20}(?![\w-]|[.,]\d)")
"""Seven digits and more, with what people put between them."""
_CARD = re.compile(r"\d{13,19}|\d{4}(?:[ -]\d{4}){3}(?:[ -]\d{3})?|\d{4}[ -]\d{6}[ -]\d{4,5}")
_AMERICAN_ID = re.compile(r"\d{3}-\d{2}-\d{4}")
_FRENCH_ID = re.compile(r"[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?\d{2} ?\d{3} ?\d{3} ?\d{2}")
_IBAN = re.compile(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?!\w)")
_ITALIAN_ID = re.compile(r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z](?!\w)")
_SPANISH_ID = re.compile(r"\b(?:DNI|NIE|NIF)\b[^\n\d]{0,24}?\b(\d{8}|[XYZ]\d{7})[ -]?([A-Z])\b")
_IPV4 = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"[0-9a-fA-F]{1,4}(?::{1,2}[0-9a-fA-F]{1,4}){3,7}(?![\w:])")
_PUBLIC_RESOLVERS = frozenset({"8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "208.67.222.222", "208.67.220.220"})
_VERSION_BEFORE = re.compile(r"(?:version|release|build|v\.?)\s*\Z", re.IGNORECASE)
# National ways of writing that are clear without a country: United States and Canada, France, United Kingdom.
_NATIONAL = (
    (re.compile(r"\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}([ .-])\d{3}\1\d{4}|1[ .-]\d{3}[ .-]\d{3}[ .-]\d{4}"), ("US", "CA")),
    (re.compile(r"0[1-9](?:([ .\u00a0\u202f-])\d{2})(?:\1\d{2}){3}"), ("FR",)),
    (re.compile(r"0(?:20 \d{4} \d{4}|1\d{3} \d{6}|1\d{2} \d{3} \d{4}|7\d{3} \d{6}|7\d{3} \d{3} \d{3})"), ("GB",)),
)
_TELEPHONE_BEFORE = re.compile(r"(?:phone|tel|mobile|cell|fax|call|dial|whatsapp|téléphone|portable|appel)\W{0,12}(?:\w+\W{1,3}){0,2}\Z", re.IGNORECASE)
_NO_TELEPHONE = re.compile(r"\+?1?\d{3}[ )./-]{0,2}555[ ./-]?01\d{2}|\(?\d{3}\) 555[ -]01\d{2}|(?:19|20)\d{2}([./-])\d{2}\1\d{2}|\d{2}([./-])\d{2}\2(?:19|20)\d{2}")
"""Numbers that are kept free for fiction, and dates."""
_BEFORE = 40


def find_personal(text: str) -> Iterator[Span]:
    """All that needs no library: every kind but telephone numbers."""
    if "@" in text:
        yield from _emails(text)
    if _TWO_DIGITS.search(text) is None:
        return
    for match in _apart(_DIGITS, text, ".,+-"):
        yield from _numbers(text, match.start(), match.end())
    for match in _apart(_IBAN, text):
        yield from _iban(match)
    for match in _apart(_ITALIAN_ID, text):
        if is_italian_id(match.group()):
            yield Span(PrivateKind.NATIONAL_ID, match.start(), match.end(), "Italian tax code")
    if "DNI" in text or "NIE" in text or "NIF" in text:
        for match in _SPANISH_ID.finditer(text):
            if is_spanish_id(match.group(1) + match.group(2)):
                yield Span(PrivateKind.NATIONAL_ID, match.start(1), match.end(), "Spanish identity number")
    yield from _addresses(text)


def _apart(pattern: re.Pattern[str], text: str, marks: str = "") -> Iterator[re.Match[str]]:
    """Matches that have no letter or digit, and none of ``marks``, right before them."""
    for match in pattern.finditer(text):
        before = text[match.start() - 1] if match.start() else " "
        if not (before.isalnum() or before == "_" or before in marks):
            yield match


def _addresses(text: str) -> Iterator[Span]:
    for match in _apart(_IPV4, text, ".-"):
        if _is_public_ipv4(match.group()) and not _VERSION_BEFORE.search(text, max(0, match.start() - 12), match.start()):
            yield Span(PrivateKind.IP, match.start(), match.end(), "IP address")
    if text.count(":") > 2:
        for match in _apart(_IPV6, text, ":."):
            if _is_public_ipv6(match.group()):
                yield Span(PrivateKind.IP, match.start(), match.end(), "IP address")


def _emails(text: str) -> Iterator[Span]:
    at = text.find("@")
    while at >= 0:
        local, domain = _LOCAL.search(text, max(0, at - 64), at), _DOMAIN.match(text, at + 1, at + 260)
        if local is not None and domain is not None and _is_somebodys(text, local, domain):
            yield Span(PrivateKind.EMAIL, local.start(), domain.end(), "e-mail address")
        at = text.find("@", at + 1)


def _is_somebodys(text: str, local: re.Match[str], domain: re.Match[str]) -> bool:
    if domain.group(1).lower() in _FILE_ENDINGS or _NOBODYS_DOMAIN.search(domain.group().lower()) or _NOBODYS_NAME.fullmatch(local.group()):
        return False
    name = local.group()
    if name.startswith((".", "-")) or name.endswith(".") or not any(mark.isalnum() for mark in name):
        return False
    # The password of an address with a name and a password before its @ is no name.
    return "://" not in text[max(0, local.start() - 64) : local.start()].rpartition(" ")[2]


def _numbers(text: str, start: int, end: int) -> Iterator[Span]:
    for match in _CARD.finditer(text, start, end):
        if is_payment_card(re.sub(r"\D", "", match.group())) and not _goes_on(text, match):
            yield Span(PrivateKind.CARD, match.start(), match.end(), "payment card")
    if match := _AMERICAN_ID.fullmatch(text, start, end):
        if is_american_id(match.group().replace("-", "")):
            yield Span(PrivateKind.NATIONAL_ID, start, end, "US social security number")
    elif (match := _FRENCH_ID.fullmatch(text, start, end)) and is_french_id(match.group().replace(" ", "")):
        yield Span(PrivateKind.NATIONAL_ID, start, end, "French social security number")


def _goes_on(text: str, match: re.Match[str]) -> bool:
    """Whether the digits are a part of something longer, or of a decimal number."""
    before = text[max(0, match.start() - 1) : match.start()]
    return text[match.end() : match.end() + 1].isdigit() or before.isdigit() or before in (".", ",")


def _iban(match: re.Match[str]) -> Iterator[Span]:
    plain = match.group().replace(" ", "")
    # The pattern may have taken a following word in capitals: the country says how long the number is.
    length = iban_length(plain[:2])
    if len(plain) >= length > 0 and is_iban(plain[:length]):
        end = match.start()
        for _ in range(length):
            end += 1 + (match.string[end] == " ")
        yield Span(PrivateKind.IBAN, match.start(), end, "IBAN")


def _is_public_ipv4(text: str) -> bool:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        return False
    # Numbers of sections and versions look like addresses whose parts are small.
    return address.is_global and text not in _PUBLIC_RESOLVERS and max(address.packed) > 31


def _is_public_ipv6(text: str) -> bool:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return address.is_global and any(mark.isalpha() for mark in text)


def phone_finder() -> Finder | None:
    """Finds telephone numbers; None where the ``phonenumbers`` library is not installed."""
    try:
        library: Any = importlib.import_module("phonenumbers")
    except ImportError:
        return None

    def is_valid(number: str, region: str | None) -> bool:
        try:
            parsed = library.parse(number, region)
        except library.NumberParseException:
            return False
        return library.is_valid_number(parsed)

    def find(text: str) -> Iterator[Span]:
        if _TWO_DIGITS.search(text) is None:
            return
        for match in _apart(_DIGITS, text, ".,-"):
            start = _begin_of_telephone(text, match)
            number = text[start : match.end()]
            if _NO_TELEPHONE.match(number):
                continue
            if number.startswith("+"):
                regions: tuple[str | None, ...] = (None,)
            else:
                regions = next((regions for pattern, regions in _NATIONAL if pattern.fullmatch(number)), ())
                if not regions and _TELEPHONE_BEFORE.search(text, max(0, start - _BEFORE), start):
                    regions = ("US", "FR", "GB")
            if any(is_valid(number, region) for region in regions):
                yield Span(PrivateKind.PHONE, start, match.end(), "telephone number")

    return find


def _begin_of_telephone(text: str, match: re.Match[str]) -> int:
    """Where a number begins whose digits begin at a match: at the bracket that is closed within it, and at its plus."""
    start = match.start()
    for mark in "(+":
        if start and text[start - 1] == mark and (mark == "+" or ")" in match.group()):
            start -= 1
    return start
