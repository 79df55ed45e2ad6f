"""Who may pass: one bearer key, compared in constant time.

What it does: the dependency that every ``/v1`` route carries (``app.py`` puts it on the one router that holds them all).
What it does not: make or store keys (``cli/data_dir.py``). Never reads the query string.
"""

import hashlib
import hmac

from fastapi import Request

from luthier.api.deps import services_of
from luthier.core.errors import AuthenticationFailed

_MISSING = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY). The server keeps its key in the file api_key of its data directory."
)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _masked(key: str) -> str:
    return f"{key[:3]}{'*' * 8}{key[-4:]}" if len(key) >= 20 else "*" * len(key)


def check_key(authorization: str | None, expected: str) -> None:
    """Compare an ``Authorization`` header with the server's key.

    Raises:
        AuthenticationFailed: no bearer key, or another one.
    """
    scheme, _, key = (authorization or "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise AuthenticationFailed(_MISSING)
    # Digests have one length, so that not even the key's length shows in the time the comparison takes.
    if not expected or not hmac.compare_digest(_digest(key), _digest(expected)):
        raise AuthenticationFailed(
            f"Incorrect API key provided: {_masked(key)}. The server keeps its key in the file api_key of its data directory.",
            code="invalid_api_key",
        )


async def require_key(request: Request) -> None:
    """Dependency: refuse a request without the right key."""
    check_key(request.headers.get("authorization"), services_of(request).api_key)


def key_id(api_key: str) -> str:
    """A name for a key that does not tell the key: the start of its SHA-256."""
    return hashlib.sha256(api_key.encode()).hexdigest()[:16]
