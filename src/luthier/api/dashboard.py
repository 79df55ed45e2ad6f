"""The dashboard's own paths, ``/`` and ``/ui/``: its pages, and the session that a page asks the API with.

What it does: sends the pages without a key, exchanges an API key for a cookie, tells a page who it is, ends sessions. What it does
not: answer the API's questions: with the cookie every path under ``/v1`` works as with the key (``auth.py``). Built by ``app.py``
around the application, inside the edge, which has checked Host by then.
"""

from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from luthier.api.auth import identify_from, logged_in
from luthier.api.bodies import json_body
from luthier.api.deps import Services, services_of
from luthier.api.errors import error_response
from luthier.api.pages import GUARDS, Pages
from luthier.api.replies import JsonReply
from luthier.api.schemas.sessions import LoginRequest
from luthier.api.sessions import SESSION_SECONDS, Session, check_same_origin
from luthier.core.errors import InvalidRequest, LuthierError, NotFound
from luthier.core.ids import new_session_id
from luthier.core.keys import Caller

ROOT = "/ui/"
SESSION = "/ui/session"
_login_body = json_body(LoginRequest)


class Dashboard:
    """ASGI middleware that answers the dashboard's paths and passes all others on."""

    def __init__(self, app: ASGIApp, pages: Pages) -> None:
        self._app = app
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = scope.get("path", "")
        if scope["type"] != "http" or (path not in ("/", "/ui") and not path.startswith(ROOT)):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            answer = await (self._session(request) if path == SESSION else self._page(request, path))
        except LuthierError as error:
            answer = error_response(error)
        for name, value in GUARDS.items():
            answer.headers.setdefault(name, value)
        await answer(scope, receive, send)

    async def _page(self, request: Request, path: str) -> Response:
        if request.method not in ("GET", "HEAD"):
            return _wrong_method(request, "GET, HEAD")
        if path in ("/", "/ui"):
            return RedirectResponse(ROOT, status_code=307)
        name = path.removeprefix(ROOT)
        answer = await run_in_threadpool(self._pages.answer, name, request.headers.get("if-none-match"))
        if answer is None:
            raise NotFound(f"Invalid URL ({request.method} {path})")
        return answer

    async def _session(self, request: Request) -> Response:
        if request.method == "POST":
            return await _log_in(request)
        if request.method in ("GET", "HEAD"):
            return await _show(request)
        if request.method == "DELETE":
            return await _log_out(request)
        return _wrong_method(request, "GET, HEAD, POST, DELETE")


def _wrong_method(request: Request, allowed: str) -> Response:
    message = f"Not allowed to {request.method} on {request.scope['path']}. (HINT: Perhaps you meant to use {allowed}?)"
    answer = error_response(InvalidRequest(message, code="method_not_supported"))
    answer.status_code = 405
    answer.headers["allow"] = allowed
    return answer


def _session_object(services: Services, session: Session, caller: Caller) -> dict[str, object]:
    return {
        "object": "luthier.session",
        "csrf": services.signer.csrf(session),
        "role": caller.role.value,
        "project_id": caller.project_id,
        "expires_at": session.expires_at,
    }


def _reply(content: dict[str, object]) -> Response:
    return JsonReply(content, headers={"cache-control": "no-store"})


async def _log_in(request: Request) -> Response:
    """A session for whoever brings a good key, in the body and nowhere else."""
    services = services_of(request)
    # A page of others must not log its visitor in as somebody else.
    check_same_origin(request.headers, request.url.scheme)
    body = await _login_body(request)
    caller = await identify_from(request, body.api_key.strip())
    session = Session(id=new_session_id(), key_id=caller.key_id, expires_at=int(services.clock()) + SESSION_SECONDS)
    answer = _reply(_session_object(services, session, caller))
    answer.set_cookie(
        services.signer.cookie,
        services.signer.seal(session),
        max_age=SESSION_SECONDS,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


async def _show(request: Request) -> Response:
    services = services_of(request)
    check_same_origin(request.headers, request.url.scheme)
    session, caller = await logged_in(services, request.cookies.get(services.signer.cookie))
    return _reply(_session_object(services, session, caller))


async def _log_out(request: Request) -> Response:
    """The session is over, for every copy of its cookie."""
    services = services_of(request)
    session, _ = await logged_in(services, request.cookies.get(services.signer.cookie))
    services.signer.check_change(session, request.method, request.headers, request.url.scheme)
    now = int(services.clock())
    await run_in_threadpool(lambda: services.sessions.end(session.id, expires_at=session.expires_at, now=now))
    answer = Response(status_code=204)
    answer.delete_cookie(services.signer.cookie, path="/", secure=request.url.scheme == "https", httponly=True, samesite="strict")
    return answer
