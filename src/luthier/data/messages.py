"""Finds every fault of the messages and tools of a row by OpenAI's rules, and makes ``core`` messages of sound ones.

What it does: roles, contents, weights, tool calls and their answers; the deprecated ``functions``/``function_call`` form
becomes tools. What it does not: check the row around them (``validate.py``). Called by ``validate.py``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from luthier.core.conversation import Message, Role
from luthier.data.finding import MAX_PER_ROW, Finding, quoted
from luthier.data.positions import Step

_MESSAGE_KEYS = frozenset({"role", "content", "name", "weight", "tool_calls", "function_call", "refusal", "tool_call_id"})
_ROLES = {role.value: role for role in Role}
_MAX_TOOLS = 128
# Most messages of most files have a role and a text and nothing else: these are seen to be sound at a glance.
_TALKERS = frozenset({"system", "developer", "user", "assistant"})


def find_in_messages(messages: Sequence[Any], found: list[Finding], path: tuple[Step, ...], label: str = "message") -> bool:
    """Add every fault of a row's messages to ``found``; ``path`` leads to the list. Returns whether every role is known."""
    before, plain = len(found), True
    for index, message in enumerate(messages):
        if type(message) is dict and len(message) == 2:
            content, role = message.get("content"), message.get("role")
            if type(content) is str and content and type(role) is str and role in _TALKERS:
                continue
        plain = False
        _Message(message, found, (*path, index), f", {label} {index + 1} ").find()
        if len(found) >= MAX_PER_ROW:
            return False
    if plain:
        return True
    added = {finding.rule for finding in found[before:]}
    if added <= _HARMLESS:
        _find_in_talk(messages, found, path, label)
    return added.isdisjoint(_WITHOUT_ROLE)


def find_in_tools(row: Mapping[str, Any], found: list[Finding], path: tuple[Step, ...] = ()) -> None:
    """Add every fault of ``tools`` and ``functions`` of a row to ``found``."""
    for key in ("tools", "functions"):
        offered = row.get(key)
        if offered is None:
            continue
        if not isinstance(offered, list) or not 1 <= len(offered) <= _MAX_TOOLS:
            found.append(Finding("bad_tools", f" has a '{key}' that is not a list of 1 to {_MAX_TOOLS} entries.", (*path, key)))
            continue
        for number, entry in enumerate(offered):
            _find_in_tool(key, number, entry, found, (*path, key, number))


def _find_in_tool(key: str, number: int, entry: object, found: list[Finding], place: tuple[Step, ...]) -> None:
    function = entry
    if key == "tools":
        if not isinstance(entry, dict) or entry.get("type") != "function":
            found.append(Finding("bad_tool", f" has a tool {number + 1} whose 'type' is not 'function'.", (*place, "type")))
            return
        function, place = entry.get("function"), (*place, "function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        text = f" has a function without a 'name' in '{key}' (entry {number + 1})."
        found.append(Finding("bad_function", text, (*place, "name")))
    elif not isinstance(function.get("parameters", {}), dict | None):
        text = f" has a function whose 'parameters' is not an object in '{key}' (entry {number + 1})."
        found.append(Finding("bad_function", text, (*place, "parameters")))


class _Message:
    """One message that is judged."""

    def __init__(self, plain: Any, found: list[Finding], place: tuple[Step, ...], lead: str) -> None:
        self._plain = plain
        self._found = found
        self._place = place
        self._lead = lead

    def _add(self, rule: str, text: str, *steps: Step) -> None:
        self._found.append(Finding(rule, self._lead + text, (*self._place, *steps), in_message=True))

    def find(self) -> None:
        """Add the message's faults, in the order in which the API would meet them."""
        if type(self._plain) is not dict:
            self._add("message_not_object", "is not a JSON object")
            return
        role = self._role()
        for key in self._plain:
            if key not in _MESSAGE_KEYS:
                self._add("message_extra_key", f"contains an extra {quoted(key)}", key)
        name = self._plain.get("name")
        if name is not None and not isinstance(name, str):
            self._add("bad_name", "has a 'name' that is not a string", "name")
        elif role == Role.FUNCTION and not name:
            self._add("missing_name", "with role 'function' is missing key 'name'", "name")
        call_id = self._plain.get("tool_call_id")
        if role == Role.TOOL and (not isinstance(call_id, str) or not call_id):
            self._add("missing_tool_call_id", "with role 'tool' is missing key 'tool_call_id'", "tool_call_id")
        has_calls = self._calls(role)
        self._content(role, has_calls=has_calls)
        weight = self._plain.get("weight")
        if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
            self._add("bad_weight", "has a 'weight' that is not 0 or 1", "weight")

    def _role(self) -> str | None:
        role = self._plain.get("role")
        if role is None:
            self._add("missing_role", "Discriminator 'role' is missing in value", "role")
        elif not isinstance(role, str) or role not in _ROLES:
            allowed = ", ".join(f"'{name}'" for name in sorted(_ROLES))
            shown = quoted(str(role)[:64])
            self._add("unknown_role", f"Discriminator 'role' has the value {shown}, which is not one of {allowed}", "role")
        else:
            return role
        return None

    def _content(self, role: str | None, *, has_calls: bool) -> None:
        content = self._plain.get("content")
        refusal = self._plain.get("refusal")
        if content is None and role == Role.ASSISTANT:
            if refusal is not None and not isinstance(refusal, str):
                self._add("bad_refusal", "has a 'refusal' that is not a string", "refusal")
                return
            content = refusal or ("" if has_calls else None)
        if content is None:
            self._add("missing_content", "is missing key 'content'", "content")
        elif isinstance(content, list):
            before = len(self._found)
            filled = [self._part(number, part) for number, part in enumerate(content)]
            if len(self._found) == before and not any(filled) and role == Role.ASSISTANT and not has_calls:
                self._empty()
        elif not isinstance(content, str):
            self._add("bad_content", "has a 'content' that is neither a string nor a list of parts", "content")
        elif not content and role == Role.ASSISTANT and not has_calls:
            self._empty()

    def _empty(self) -> None:
        self._add("empty_assistant", "with role 'assistant' has an empty 'content' and no tool calls", "content")

    def _part(self, number: int, part: Any) -> bool:
        """Whether a part of a content is sound and has text."""
        if not isinstance(part, dict):
            self._add("bad_part", f"has a content part {number + 1} that is not an object", "content", number)
            return False
        kind = part.get("type")
        if kind in ("image_url", "input_audio", "file"):
            text = f"has a content part of type {quoted(kind)}; this base model reads text only"
            self._add("not_text", text, "content", number, "type")
            return False
        key = "refusal" if kind == "refusal" else "text"
        if kind != key or not isinstance(part.get(key), str):
            text = f"has a content part {number + 1} that is not of the form {{type: text, text: ...}}"
            self._add("bad_part", text, "content", number)
            return False
        return bool(part[key])

    def _calls(self, role: str | None) -> bool:
        """Whether the message calls a tool, rightly or not."""
        calls, old = self._plain.get("tool_calls"), self._plain.get("function_call")
        if calls is None and old is None:
            return False
        if role is not None and role != Role.ASSISTANT:
            key = "function_call" if calls is None else "tool_calls"
            self._add("misplaced_tool_calls", "has tool calls, which only a message with role 'assistant' may have", key)
            return True
        if old is not None:
            self._function(old, "function_call")
            return True
        if not isinstance(calls, list) or not calls:
            self._add("bad_tool_calls", "has a 'tool_calls' that is not a list of at least one call", "tool_calls")
            return True
        for number, call in enumerate(calls):
            if not isinstance(call, dict) or call.get("type") != "function":
                text = f"has a tool call {number + 1} whose 'type' is not 'function'"
                self._add("bad_tool_call", text, "tool_calls", number, "type")
                continue
            if not isinstance(call.get("id"), str):
                self._add("bad_tool_call", f"has a tool call {number + 1} that is missing key 'id'", "tool_calls", number, "id")
            self._function(call.get("function"), "tool_calls", number, "function")
        return True

    def _function(self, function: Any, *steps: Step) -> None:
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
            self._add("bad_function_call", "has a call of a function without a 'name'", *steps, "name")
            return
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            self._add("bad_function_call", "has a call whose 'arguments' is not a string of JSON", *steps, "arguments")
            return
        decoded = _decoded(arguments)
        if isinstance(decoded, str) and isinstance(_decoded(decoded), dict):
            self._add("arguments_encoded_twice", "has a call whose 'arguments' were encoded twice", *steps, "arguments")
        elif not isinstance(decoded, dict):
            self._add("arguments_not_json", "has a call whose 'arguments' are not a JSON object", *steps, "arguments")


_HARMLESS = frozenset({"arguments_encoded_twice", "arguments_not_json"})
_WITHOUT_ROLE = frozenset({"message_not_object", "missing_role", "unknown_role"})


def _decoded(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _find_in_talk(messages: Sequence[dict[str, Any]], found: list[Finding], path: tuple[Step, ...], label: str) -> None:
    """Every call is answered before the talk goes on, and every answer has its call; a row may end on a call."""
    open_ids: set[str] = set()
    asked_at = 0
    for index, message in enumerate(messages):
        if message["role"] == Role.TOOL:
            if message["tool_call_id"] not in open_ids:
                text = f", {label} {index + 1} with role 'tool' must be a response to a preceding message with 'tool_calls'"
                found.append(Finding("unasked_answer", text, (*path, index, "tool_call_id"), in_message=True))
            open_ids.discard(message["tool_call_id"])
            continue
        if open_ids:
            text = f", {label} {asked_at + 1} with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'"
            found.append(Finding("unanswered_call", text, (*path, asked_at, "tool_calls"), in_message=True))
            open_ids = set()
        if message.get("tool_calls") and not message.get("function_call"):
            asked_at = index
            open_ids = {call["id"] for call in message["tool_calls"]}


def message_of(plain: Mapping[str, Any]) -> Message:
    """The message that a sound JSON message says."""
    if len(plain) == 2 and type(content := plain.get("content")) is str:  # most messages, and files have millions
        return Message(role=_ROLES[plain["role"]], content=content)
    old = plain.get("function_call")
    calls = ({"type": "function", "function": old},) if old is not None else tuple(plain.get("tool_calls") or ())
    content = plain.get("content")
    if isinstance(content, list):
        content = "".join(part["refusal" if part["type"] == "refusal" else "text"] for part in content)
    elif content is None:
        content = plain.get("refusal") or ""
    weight = plain.get("weight")
    return Message(
        role=_ROLES[plain["role"]],
        content=content,
        name=plain.get("name"),
        tool_calls=calls,
        tool_call_id=plain.get("tool_call_id") if isinstance(plain.get("tool_call_id"), str) else None,
        weight=1.0 if weight is None else float(weight),
    )
