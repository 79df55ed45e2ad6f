"""The dashboard's built files: found, read once, and told apart by how long a browser may keep them.

What it does: a path below ``/ui/`` to bytes with headers; hashed files under ``assets/`` are kept for good, all else is asked for again
each time and answered by its ETag. What it does not: build them (``web/``) or know sessions. Called by ``dashboard.py``.
"""

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.responses import Response

STATIC_DIR = Path(__file__).resolve().parent / "static"
INDEX = "index.html"
_ASSETS = "assets/"
_MAX_NAME_BYTES = 255
_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
GUARDS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""On every answer below ``/ui/``: no script but ours, and no page of others around ours."""
_TEXT_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml", ".json": "application/json"}
NOT_BUILT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Luthier</title></head><body>
<h1>The dashboard is not in this copy of Luthier</h1>
<p>The server runs, and its API answers. The dashboard's built files are missing: they are part of the released package, and in a
checkout they are built with <code>npm ci</code> and <code>npm run build</code> in the folder <code>web</code> (Node 20 or newer).</p>
<p>Until then everything can be done with the command line (<code>luthier --help</code>) and with any OpenAI client.</p>
</body></html>
"""


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    etag: str
    changed_ns: int


class Pages:
    """The files of one folder."""

    def __init__(self, folder: Path = STATIC_DIR) -> None:
        self._folder = folder.resolve()
        self._known: dict[str, _File] = {}

    def answer(self, path: str, if_none_match: str | None) -> Response | None:
        """The answer for a path below ``/ui/``; None when there is no such file.

        A path without a dot is a page of the application and answered by ``index.html``, which looks at the path itself.
        """
        name = path if "." in path else INDEX
        file = self._read(name)
        if file is None:
            return Response(NOT_BUILT, status_code=404, media_type="text/html", headers=dict(GUARDS)) if name == INDEX else None
        headers = {**GUARDS, "etag": file.etag, "cache-control": _FOREVER if name.startswith(_ASSETS) else _ASK_AGAIN}
        if if_none_match is not None and file.etag in [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]:
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=_media_type(name))

    def _read(self, name: str) -> _File | None:
        if "\0" in name or len(name.encode("utf-8", "surrogateescape")) > _MAX_NAME_BYTES:
            return None  # no file system has such a name
        path = (self._folder / name).resolve()
        if not path.is_relative_to(self._folder) or not path.is_file():
            return None
        changed = path.stat().st_mtime_ns
        known = self._known.get(name)
        if known is None or known.changed_ns != changed:
            content = path.read_bytes()
            known = _File(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"', changed)
            self._known[name] = known
        return known


def _media_type(name: str) -> str:
    # Not left to the machine's own table: with nosniff a script of a wrong type does not run.
    suffix = Path(name).suffix.lower()
    return _TEXT_TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
