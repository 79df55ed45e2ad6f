"""What a chat template expects of tool calls, found by asking it.

What it does: brings calls into the form that the template writes right. What it does not: read calls (``tool_calls.py``).
Called by ``renderer.py``, once per model.
"""

import hashlib
import json
from typing import Any

from luthier.chat.template import Template
from luthier.core.conversation import Message, Role, message_to_dict
from luthier.core.errors import InvalidRequest

# Open models know no other names for these roles.
_KNOWN_AS = {Role.DEVELOPER: Role.SYSTEM, Role.FUNCTION: Role.TOOL}
_SHORT_ID = "callProbe"
_LONG_ID = "call_luthierProbe0123456789"
_ARGUMENTS = '{"probe": 1}'


class Habits:
    """Asked once; then pure."""

    def __init__(self, template: Template) -> None:
        self.takes_text: bool = _ARGUMENTS in (_probe(template, _ARGUMENTS, _SHORT_ID) or "")
        """Arguments given as text, as the API does, are written as they are. Otherwise they would be encoded twice, and are given
        as an object."""
        arguments = _ARGUMENTS if self.takes_text else json.loads(_ARGUMENTS)
        accepts_short = _probe(template, arguments, _SHORT_ID) is not None
        self.short_ids: bool = accepts_short and _probe(template, arguments, _LONG_ID) is None
        """Mistral's templates refuse ids of calls that have not nine letters and digits."""

    def plain(self, message: Message) -> dict[str, Any]:
        """The message as this template reads it."""
        plain = {**message_to_dict(message), "role": _KNOWN_AS.get(message.role, message.role).value}
        if message.tool_calls:
            plain["tool_calls"] = [self._call(call) for call in message.tool_calls]
        if self.short_ids and "tool_call_id" in plain:
            plain["tool_call_id"] = short_id(plain["tool_call_id"])
        return plain

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        changed = dict(call)
        if self.short_ids and isinstance(call.get("id"), str):
            changed["id"] = short_id(call["id"])
        function = call.get("function")
        if not self.takes_text and isinstance(function, dict) and isinstance(function.get("arguments"), str):
            changed["function"] = {**function, "arguments": _object(function["arguments"])}
        return changed


def short_id(given: str) -> str:
    """Nine letters and digits that stand for an id; an id that is such is kept."""
    if len(given) == 9 and given.isascii() and given.isalnum():
        return given
    return hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:9]


def _object(arguments: str) -> Any:
    """The object that a text of JSON holds; the text itself when it holds none."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments


def _probe(template: Template, arguments: Any, call_id: str) -> str | None:
    call = {"id": call_id, "type": "function", "function": {"name": "probe", "arguments": arguments}}
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    try:
        return template.render(talk)
    except InvalidRequest:
        return None
