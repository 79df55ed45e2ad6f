"""Whole JSON answers. ``orjson`` writes NaN as null and never lets half a surrogate pair out. Called by the routes."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.responses import Response


class JsonReply(Response):
    """A JSON answer with status 200 unless told otherwise."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes of ``content``."""
        return orjson.dumps(content)


def listing(data: Sequence[Mapping[str, Any]], *, has_more: bool = False, cursors: bool = False) -> dict[str, Any]:
    """OpenAI's list envelope; ``cursors`` adds ``first_id`` and ``last_id``."""
    envelope: dict[str, Any] = {"object": "list", "data": list(data), "has_more": has_more}
    if cursors:
        envelope["first_id"] = data[0]["id"] if data else None
        envelope["last_id"] = data[-1]["id"] if data else None
    return envelope
