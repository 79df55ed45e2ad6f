"""A session of the dashboard: a signed cookie in place of the key, and what a request that brings it must show.

What it does: signs and reads cookies, makes the token that guards changes, says whether a request comes from the page itself. What it
does not: check keys (``auth.py``) or answer requests (``dashboard.py``). Called by those two.

A browser sends cookies along whoever caused the request, so a cookie alone changes nothing: a change also needs the token, which only
our own page can read, and the browser's word (``Origin``, ``Sec-Fetch-Site``) that it was this page. SameSite=Strict keeps the cookie
from other sites; other ports of one host are the same site, which is why the browser's word is asked for. A browser also keeps one jar for
all ports of a host, so the cookie's name carries a mark of the data directory: servers beside each other do not log each other out.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers

from luthier.core.errors import PermissionRefused

COOKIE_PREFIX = "luthier_session_"
CSRF_HEADER = "x-luthier-csrf"
SESSION_SECONDS = 7 * 24 * 3600
_SAFE = ("GET", "HEAD")
_MARK_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Who logged in, and until when it counts."""

    id: str
    key_id: str
    expires_at: int
    """Unix seconds."""


class SessionSigner:
    """Cookies of one data directory."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.cookie = COOKIE_PREFIX + self._mac("cookie", "")[:_MARK_DIGITS]
        """The cookie's name. The mark is of the directory and not of the port, which a proxy in front of the server does not tell."""

    def seal(self, session: Session) -> str:
        """The cookie's value."""
        content = f"{session.id}.{session.key_id}.{session.expires_at}"
        return f"{content}.{self._mac('session', content)}"

    def open(self, value: str, now: float) -> Session | None:
        """The session of a cookie; None when we did not sign it, or it has expired."""
        content, _, mac = value.rpartition(".")
        parts = content.split(".")
        if not value.isascii() or len(parts) != 3 or not hmac.compare_digest(mac, self._mac("session", content)):
            return None
        session = Session(id=parts[0], key_id=parts[1], expires_at=int(parts[2]))
        return session if now < session.expires_at else None

    def csrf(self, session: Session) -> str:
        """The token that the session's page sends with every change."""
        return self._mac("csrf", session.id)

    def _mac(self, purpose: str, content: str) -> str:
        return hmac.new(self._secret, f"{purpose}:{content}".encode(), hashlib.sha256).hexdigest()

    def check_change(self, session: Session, method: str, headers: Headers, scheme: str) -> None:
        """Refuse what our own page did not ask for.

        Raises:
            PermissionRefused: another site's request; or a change without the token, or of which the browser does not say whence it comes.
        """
        check_same_origin(headers, scheme)
        if method in _SAFE:
            return
        if "origin" not in headers and "sec-fetch-site" not in headers:
            raise PermissionRefused(
                "A change by a session needs an Origin or Sec-Fetch-Site header. Programs use an API key.", code="csrf_failed"
            )
        token = headers.get(CSRF_HEADER, "")
        if not token.isascii() or not hmac.compare_digest(token, self.csrf(session)):
            raise PermissionRefused("A change by a session needs its X-Luthier-CSRF token. Log in again.", code="csrf_failed")


def check_same_origin(headers: Headers, scheme: str) -> None:
    """Refuse a request that a browser says another page made.

    Raises:
        PermissionRefused: its ``Origin`` or ``Sec-Fetch-Site`` names another page.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    host = headers.get("host", "").lower()
    # A proxy that ends TLS changes the scheme; the browser, which knows the real one, says then that it is the same origin.
    schemes = ("http", "https") if site == "same-origin" else (scheme,)
    foreign = origin is not None and origin.lower() not in {f"{one}://{host}" for one in schemes}
    # none: the reader typed the address. A page's own requests are same-origin.
    if foreign or site not in (None, "same-origin", "none"):
        raise PermissionRefused("A session answers this server's own pages alone.", code="cross_site_request")


def read_secret(path: Path) -> bytes:
    """The data directory's secret, made at the first start; mode 0600."""
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
        if len(secret) >= 32:
            return secret
    except (FileNotFoundError, ValueError):
        pass  # none yet, or not what we wrote: a new one, and everybody logs in again
    secret = os.urandom(32)
    temporary = path.with_name(f".session_secret-{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret.hex())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return secret
