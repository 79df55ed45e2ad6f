"""Checks the messages and tools of a chat row against OpenAI's rules and makes ``core`` messages of them.

What it does: roles, contents, weights, tool calls and their answers; the deprecated ``functions``/``function_call`` form
becomes tools. What it does not: check the row around them (``validate.py``). Called by ``validate.py``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from luthier.core.conversation import Message, Role

_MESSAGE_KEYS = frozenset({"role", "content", "name", "weight", "tool_calls", "function_call", "refusal", "tool_call_id"})
_ROLES = frozenset(role.value for role in Role)
_MAX_TOOLS = 128


class MessageFault(Exception):
    """A fault of one message; ``message`` follows "Example N, message M "."""

    def __init__(self, index: int, message: str, path: str = "") -> None:
        super().__init__(message)
        self.index = index
        self.message = message
        self.path = path


def quoted(text: str) -> str:
    """A user's text in double quotes, escaped and cut to 64 characters, fit for a one-line message."""
    return orjson.dumps(text[:64]).decode()


def check_messages(messages: Sequence[object]) -> tuple[Message, ...]:
    """The checked messages of one row.

    Raises:
        MessageFault: naming the first message that breaks a rule.
    """
    checked = tuple(_message(index, plain) for index, plain in enumerate(messages))
    _check_tool_answers(checked)
    return checked


def check_tools(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """What is wrong with ``tools`` and ``functions`` of a row (message, JSON path), or None."""
    for key in ("tools", "functions"):
        offered = row.get(key)
        if offered is None:
            continue
        if not isinstance(offered, list) or not 1 <= len(offered) <= _MAX_TOOLS:
            return f"has a '{key}' that is not a list of 1 to {_MAX_TOOLS} entries.", key
        for number, entry in enumerate(offered):
            path = f"{key}[{number}]"
            function = entry
            if key == "tools":
                if not isinstance(entry, dict) or entry.get("type") != "function":
                    return f"has a tool {number + 1} whose 'type' is not 'function'.", f"{path}.type"
                function, path = entry.get("function"), f"{path}.function"
            if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
                return f"has a function without a 'name' in '{key}' (entry {number + 1}).", f"{path}.name"
            if not isinstance(function.get("parameters", {}), dict | None):
                return f"has a function whose 'parameters' is not an object in '{key}' (entry {number + 1}).", f"{path}.parameters"
    return None


def _message(index: int, plain: object) -> Message:
    if not isinstance(plain, dict):
        raise MessageFault(index, "is not a JSON object")
    if plain.get("role") is None:
        raise MessageFault(index, "Discriminator 'role' is missing in value", ".role")
    role = plain["role"]
    if not isinstance(role, str) or role not in _ROLES:
        allowed = ", ".join(f"'{name}'" for name in sorted(_ROLES))
        raise MessageFault(index, f"Discriminator 'role' has the value {quoted(str(role))}, which is not one of {allowed}", ".role")
    for key in plain:
        if key not in _MESSAGE_KEYS:
            raise MessageFault(index, f"contains an extra {quoted(key)}", f".{key[:64]}")
    name = plain.get("name")
    if name is not None and not isinstance(name, str):
        raise MessageFault(index, "has a 'name' that is not a string", ".name")
    if role == Role.FUNCTION and not name:
        raise MessageFault(index, "with role 'function' is missing key 'name'", ".name")
    call_id = plain.get("tool_call_id")
    if role == Role.TOOL and (not isinstance(call_id, str) or not call_id):
        raise MessageFault(index, "with role 'tool' is missing key 'tool_call_id'", ".tool_call_id")
    calls = _tool_calls(index, plain, role)
    return Message(
        role=Role(role),
        content=_content(index, plain, role, has_calls=bool(calls)),
        name=name,
        tool_calls=calls,
        tool_call_id=call_id if isinstance(call_id, str) else None,
        weight=_weight(index, plain),
    )


def _weight(index: int, plain: Mapping[str, Any]) -> float:
    weight = plain.get("weight")
    if weight is None:
        return 1.0
    if isinstance(weight, bool) or weight not in (0, 1):
        raise MessageFault(index, "has a 'weight' that is not 0 or 1", ".weight")
    return float(weight)


def _content(index: int, plain: Mapping[str, Any], role: str, *, has_calls: bool) -> str:
    content = plain.get("content")
    if content is None and role == Role.ASSISTANT:
        refusal = plain.get("refusal")
        if refusal is not None and not isinstance(refusal, str):
            raise MessageFault(index, "has a 'refusal' that is not a string", ".refusal")
        content = refusal or ("" if has_calls else None)
    if content is None:
        raise MessageFault(index, "is missing key 'content'", ".content")
    text = _text(index, content)
    if not text and role == Role.ASSISTANT and not has_calls:
        raise MessageFault(index, "with role 'assistant' has an empty 'content' and no tool calls", ".content")
    return text


def _text(index: int, content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise MessageFault(index, "has a 'content' that is neither a string nor a list of parts", ".content")
    pieces: list[str] = []
    for number, part in enumerate(content):
        path = f".content[{number}]"
        if not isinstance(part, dict):
            raise MessageFault(index, f"has a content part {number + 1} that is not an object", path)
        if part.get("type") in ("image_url", "input_audio", "file"):
            raise MessageFault(index, f"has a content part of type {quoted(part['type'])}; this base model reads text only", f"{path}.type")
        key = "refusal" if part.get("type") == "refusal" else "text"
        if part.get("type") != key or not isinstance(part.get(key), str):
            raise MessageFault(index, f"has a content part {number + 1} that is not of the form {{type: text, text: ...}}", path)
        pieces.append(part[key])
    return "".join(pieces)


def _tool_calls(index: int, plain: Mapping[str, Any], role: str) -> tuple[dict[str, Any], ...]:
    calls = plain.get("tool_calls")
    old = plain.get("function_call")
    if calls is None and old is None:
        return ()
    if role != Role.ASSISTANT:
        raise MessageFault(index, "has tool calls, which only a message with role 'assistant' may have", ".tool_calls")
    if old is not None:
        _check_function(index, old, ".function_call")
        return ({"type": "function", "function": old},)
    if not isinstance(calls, list) or not calls:
        raise MessageFault(index, "has a 'tool_calls' that is not a list of at least one call", ".tool_calls")
    for number, call in enumerate(calls):
        path = f".tool_calls[{number}]"
        if not isinstance(call, dict) or call.get("type") != "function":
            raise MessageFault(index, f"has a tool call {number + 1} whose 'type' is not 'function'", f"{path}.type")
        if not isinstance(call.get("id"), str):
            raise MessageFault(index, f"has a tool call {number + 1} that is missing key 'id'", f"{path}.id")
        _check_function(index, call.get("function"), f"{path}.function")
    return tuple(calls)


def _check_function(index: int, function: object, path: str) -> None:
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise MessageFault(index, "has a call of a function without a 'name'", f"{path}.name")
    if not isinstance(function.get("arguments"), str):
        raise MessageFault(index, "has a call whose 'arguments' is not a string of JSON", f"{path}.arguments")


def _check_tool_answers(messages: Sequence[Message]) -> None:
    """Every call is answered before the talk goes on, and every answer has its call; a row may end on a call."""
    open_ids: set[str] = set()
    asked_at = 0
    for index, message in enumerate(messages):
        if message.role is Role.TOOL:
            if message.tool_call_id not in open_ids:
                raise MessageFault(index, "with role 'tool' must be a response to a preceding message with 'tool_calls'", ".tool_call_id")
            open_ids.discard(message.tool_call_id)
            continue
        if open_ids:
            raise MessageFault(
                asked_at,
                "with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'",
                ".tool_calls",
            )
        if message.tool_calls:
            asked_at = index
            open_ids = {call["id"] for call in message.tool_calls if "id" in call}
