"""Rewrites the strings and numbers of one JSON line in place, and leaves every other byte as it is.

What it does: walks over the tokens of a valid line without building it; a string that holds JSON itself (the arguments of a tool
call) is walked in turn, so it stays JSON. What it does not: parse strictly (``parse.py`` did), or know what is rewritten. Called
by ``redact.py``.
"""

import json
import re
from collections.abc import Callable

import orjson

Rewrite = Callable[[str], str | None]
"""Given a text, the text to write in its place, or None to leave it."""
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?\d[\d.eE+-]*+', re.DOTALL)
_MAX_DEPTH = 8


def rewrite_texts(data: bytes, rewrite: Rewrite) -> bytes:
    """The line with every string (keys too) and every number given to ``rewrite``; a rewritten number becomes a string.

    ``data`` must be valid JSON.
    """
    return _rewritten(data, rewrite, 0)


def _rewritten(data: bytes, rewrite: Rewrite, depth: int) -> bytes:
    pieces: list[bytes] = []
    kept = 0
    for match in _TOKEN.finditer(data):
        token = match.group()
        new = _string(token, rewrite, depth) if token.startswith(b'"') else _number(token, rewrite)
        if new is not None:
            pieces += [data[kept : match.start()], new]
            kept = match.end()
    return b"".join([*pieces, data[kept:]]) if pieces else data


def _number(token: bytes, rewrite: Rewrite) -> bytes | None:
    new = rewrite(token.decode()) if len(token) > 6 else None
    return None if new is None else orjson.dumps(new)


def _string(token: bytes, rewrite: Rewrite, depth: int) -> bytes | None:
    text: str = orjson.loads(token)
    if depth < _MAX_DEPTH and text.lstrip()[:1] in ("{", "[", '"') and _is_json(text):
        inner = text.encode()
        new = _rewritten(inner, rewrite, depth + 1)
        if new is inner:
            return None
        return _encoded(new.decode(), token)
    changed = rewrite(text)
    return None if changed is None else _encoded(changed, token)


def _encoded(text: str, before: bytes) -> bytes:
    """The text as a JSON string, with escapes for what is not ASCII where the string had them before."""
    return json.dumps(text).encode() if before.isascii() else orjson.dumps(text)


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
