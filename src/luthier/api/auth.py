"""Who is asking: the bearer key of a request becomes a ``Caller`` with key, role, project and limits.

What it does: the dependency that every ``/v1`` route carries (``app.py`` puts it on the one router that holds them all): finds the
key by its hash, or the dashboard's session by its cookie, refuses wrong and revoked ones, checks the role and the account headers. What
it does not: make or store keys (``routes/keys.py``, ``cli/data_dir.py``), log in (``dashboard.py``). Never reads the query string.
"""

import hmac

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from luthier.api.access import check_role
from luthier.api.deps import Services, services_of
from luthier.api.sessions import Session
from luthier.core.errors import AuthenticationFailed
from luthier.core.keys import DEFAULT_PROJECT, ApiKey, Caller, Limits, Role, first_key_id, key_sha256, masked
from luthier.core.settings import Settings

_MISSING = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY). The server keeps its first key in the file api_key of its data directory."
)
_ORGANIZATION_PREFIX = "org-"
INNER_CALLER = "luthier.caller"
"""Key of an ASGI scope that ``batches/inner.py`` makes: the caller whose request it is, known already."""


def bearer_key(authorization: str | None) -> str:
    """The key in an ``Authorization`` header.

    Raises:
        AuthenticationFailed: there is none.
    """
    scheme, _, key = (authorization or "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise AuthenticationFailed(_MISSING)
    return key


def is_same(sha256: str, expected: str) -> bool:
    """Compare two hashes in a time that does not tell how far they agree."""
    return hmac.compare_digest(sha256, expected)


def default_limits(settings: Settings) -> Limits:
    """The limits of a key that has none of its own."""
    return Limits(
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
        concurrent_generations=settings.concurrent_generations,
        jobs_per_day=settings.jobs_per_day,
    )


def _first_caller(services: Services) -> Caller:
    return Caller(
        key_id=first_key_id(services.api_key), role=Role.ADMIN, project_id=DEFAULT_PROJECT, limits=default_limits(services.settings)
    )


def _caller_of(key: ApiKey, settings: Settings) -> Caller:
    limits = default_limits(settings).overridden(key.limits)
    return Caller(key_id=key.id, role=key.role, project_id=key.project_id, limits=limits)


async def identify(services: Services, key: str) -> Caller:
    """Whose key it is.

    Raises:
        AuthenticationFailed: nobody's, or it was revoked: told alike.
    """
    sha256 = key_sha256(key)
    # A server without a first key must not take the empty one for it.
    if services.api_key and is_same(sha256, key_sha256(services.api_key)):
        return _first_caller(services)
    found = await run_in_threadpool(services.keys.find, sha256)
    if found is None or not is_same(sha256, found.sha256) or found.revoked_at is not None:
        raise AuthenticationFailed(
            f"Incorrect API key provided: {masked(key)}. The server keeps its first key in the file api_key of its data directory; "
            "whoever holds it makes the others.",
            code="invalid_api_key",
        )
    return _caller_of(found, services.settings)


async def logged_in(services: Services, cookie: str | None) -> tuple[Session, Caller]:
    """The living session of a cookie, and whose it is.

    Raises:
        AuthenticationFailed: there is none, it has expired or was ended, or its key is no longer good: told alike.
    """
    session = services.signer.open(cookie or "", services.clock())
    if session is not None and not await run_in_threadpool(services.sessions.is_ended, session.id):
        if services.api_key and session.key_id == first_key_id(services.api_key):
            return session, _first_caller(services)
        key = await run_in_threadpool(services.keys.get, session.key_id)
        if key is not None and key.revoked_at is None:
            return session, _caller_of(key, services.settings)
    raise AuthenticationFailed("You are not logged in, or your session is over. Log in with an API key.", code="session_ended")


async def identify_request(request: Request) -> Caller:
    """Whose request it is: the key in its header, else the session in its cookie.

    Raises:
        AuthenticationFailed: nobody's.
        PermissionRefused: a session's, but not from its own page.
        TooManyRequests: too many wrong keys came from there.
    """
    services = services_of(request)
    authorization, cookie = request.headers.get("authorization"), request.cookies.get(services.signer.cookie)
    if authorization is None and cookie is not None:
        session, caller = await logged_in(services, cookie)
        services.signer.check_change(session, request.method, request.headers, request.url.scheme)
        return caller
    return await identify_from(request, bearer_key(authorization))


async def identify_from(request: Request, key: str) -> Caller:
    """Whose key it is; a wrong one counts against the address that it came from.

    Raises:
        AuthenticationFailed: nobody's.
        TooManyRequests: too many wrong ones came from there.
    """
    services = services_of(request)
    address = request.client.host if request.client is not None else ""
    services.bad_keys.check(address)
    try:
        return await identify(services, key)
    except AuthenticationFailed:
        services.bad_keys.note(address, key_sha256(key))
        raise


def check_organization(value: str | None, settings: Settings) -> None:
    """An ``OpenAI-Organization`` header, where the operator wants it checked, names this server's organisation.

    Raises:
        AuthenticationFailed: it names another one.
    """
    if not value or not settings.strict_account_headers:
        return
    if value.removeprefix(_ORGANIZATION_PREFIX) != settings.organization:
        raise AuthenticationFailed("OpenAI-Organization header should match organization for API key", code="mismatched_organization")


async def check_project(value: str | None, caller: Caller, services: Services) -> None:
    """An ``OpenAI-Project`` header names the key's own project; one that is no project here counts only where the operator wants it.

    Raises:
        AuthenticationFailed: it names another one.
    """
    if not value or value == caller.project_id:
        return
    if services.settings.strict_account_headers or await run_in_threadpool(services.keys.project, value) is not None:
        raise AuthenticationFailed("OpenAI-Project header should match project for API key", code="mismatched_project")


async def require_key(request: Request) -> None:
    """Dependency: refuse a request without a right key, or whose key may not do it; leave the caller in the request's state."""
    # The server asks itself, for a line of a batch; nothing that comes from the network can put this into a scope.
    inner = request.scope.get(INNER_CALLER)
    if isinstance(inner, Caller):
        request.state.caller = inner
        return
    services = services_of(request)
    caller = await identify_request(request)
    request.state.caller = caller
    check_organization(request.headers.get("openai-organization"), services.settings)
    await check_project(request.headers.get("openai-project"), caller, services)
    # The path that was routed: a path that is spelt otherwise than the table's goes to no route of it.
    check_role(caller, request.method, request.scope["path"])
