"""Finds a running server and its key, and builds the official client for it.

What it does: takes address and key from options, from ``LUTHIER_URL`` and ``LUTHIER_API_KEY``, from ``OPENAI_BASE_URL`` and
``OPENAI_API_KEY``, or from the data directory, in this order. What it does not: start a server (``cli/demo_server.py``).
Called by the commands that speak to a server.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from luthier.cli.settings_file import read_settings
from luthier.core.errors import AuthenticationFailed, InvalidRequest
from luthier.core.settings import Settings

if TYPE_CHECKING:
    import openai

DEFAULT_URL = "http://127.0.0.1:8000"
_TRACE_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server answers."""

    url: str
    """Without ``/v1`` and without a final slash."""
    key: str


def find_server(
    *, url: str | None = None, api_key: str | None = None, data_dir: Path | None = None, environ: Mapping[str, str] | None = None
) -> Server:
    """The server to speak to; whether it answers is not tried.

    ``OPENAI_*`` stand behind ``--data-dir``: that option names a server of its own. ``OPENAI_API_KEY`` is used only where an
    address is named beside it: alone it is most likely a key of OpenAI's service, which no other server should see.

    Raises:
        AuthenticationFailed: no key was given and none stands in the data directory.
        InvalidRequest: a ``LUTHIER_*`` variable does not fit its type, or the address is not one of HTTP.
    """
    env = os.environ if environ is None else environ
    settings = read_settings(env, data_dir=data_dir)
    named = url or env.get("LUTHIER_URL") or (env.get("OPENAI_BASE_URL") if data_dir is None else None)
    key = api_key or env.get("LUTHIER_API_KEY")
    if not key and named and data_dir is None:
        key = env.get("OPENAI_API_KEY")
    key = key or read_key(settings.api_key_file)
    if not key:
        raise AuthenticationFailed(
            f"No API key: {settings.api_key_file} does not hold one. Name the server's data directory with --data-dir, "
            "or give --url and --api-key (LUTHIER_URL and LUTHIER_API_KEY, or OPENAI_BASE_URL and OPENAI_API_KEY)."
        )
    if not key.isascii() or not key.isprintable():
        raise AuthenticationFailed("The API key holds characters that no key can have.")
    address = named or _announced_url(settings) or DEFAULT_URL
    if not _is_http(address):
        raise InvalidRequest(f"{address!r} is not the address of a server, such as {DEFAULT_URL}.")
    return Server(address.rstrip("/").removesuffix("/v1"), key)


def _is_http(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def read_key(path: Path) -> str | None:
    """The key in the file; None when there is no readable one."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _announced_url(settings: Settings) -> str | None:
    try:
        plain = json.loads((settings.data_dir / "server.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    url = plain.get("url") if isinstance(plain, dict) else None
    return url if isinstance(url, str) else None


def client_of(server: Server) -> "openai.OpenAI":
    """The official client, pointed at the server."""
    import openai  # most of a second: only commands that use it pay

    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key)


def connect(*, url: str | None = None, api_key: str | None = None, data_dir: Path | None = None) -> "openai.OpenAI":
    """Find the server and build the client. Raises as ``find_server`` does."""
    return client_of(find_server(url=url, api_key=api_key, data_dir=data_dir))


def is_ready(url: str) -> bool:
    """True when the server at ``url`` would take a job and answer a chat now."""
    import httpx2

    try:
        return httpx2.get(f"{url}/readyz", timeout=2.0).status_code == 200
    except httpx2.HTTPError:
        return False


def trace_page(client: "openai.OpenAI", job_id: str, after: int) -> tuple[list[dict[str, Any]], bool]:
    """The next trace events of a job as plain dicts, and whether more are there already."""
    options: Any = {"params": {"after": after, "limit": _TRACE_PAGE}}
    page: Any = client.get(f"/luthier/jobs/{job_id}/trace", cast_to=object, options=options)
    return page["data"], page["has_more"]


def get(client: "openai.OpenAI", path: str, **query: object) -> dict[str, Any]:
    """What a GET of ``path`` (below ``/v1``) answers, as plain JSON; query values that are None are left out."""
    options: Any = {"params": {name: value for name, value in query.items() if value is not None}}
    reply: Any = client.get(path, cast_to=object, options=options)
    return reply


def post(client: "openai.OpenAI", path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a POST to ``path`` (below ``/v1``) answers, as plain JSON."""
    reply: Any = client.post(path, cast_to=object, body=body)
    return reply


def delete(client: "openai.OpenAI", path: str) -> dict[str, Any]:
    """What a DELETE of ``path`` (below ``/v1``) answers, as plain JSON."""
    reply: Any = client.delete(path, cast_to=object)
    return reply
