"""Cures of a parsed row: names of roles, arguments of tool calls, and the columns of other formats.

What it does: changes a row in place and names what it changed. What it does not: read files (``repair.py``,
``import_rows.py``), or change what a text says.
"""

import json
from collections.abc import Iterator
from typing import Any

import orjson

from luthier.data.role_names import role_of

ROLE_NAME = "role name"
ARGUMENTS_OBJECT = "tool arguments as an object"
ARGUMENTS_TWICE = "tool arguments encoded twice"
TEXT_LABEL = "text and label to chat"
COMPLETION = "prompt and completion to chat"
_LISTS = ("messages", "preferred_output", "non_preferred_output", "preferred_completion", "non_preferred_completion")


def text_of(value: object) -> str | None:
    """A cell as text: a text as it is, a number or a structure as its JSON, nothing for null."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def to_chat(row: dict[str, Any], *, completions: bool) -> list[str]:
    """Turn a row of ``text`` and ``label``, and where asked one of ``prompt`` and ``completion``, into a chat row, in place."""
    keys = set(row)
    if keys == {"text", "label"}:
        question, answer, kind = row["text"], row["label"], TEXT_LABEL
    elif completions and keys == {"prompt", "completion"}:
        question, answer, kind = row["prompt"], row["completion"], COMPLETION
    else:
        return []
    answer = text_of(answer)
    if not isinstance(question, str) or not answer:
        return []
    row.clear()
    row["messages"] = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return [kind]


def cure_messages(row: dict[str, Any]) -> list[str]:
    """Cure roles and tool calls of every message of a row, in place; what was changed, once each."""
    kinds: dict[str, None] = {}
    for message in _messages(row):
        role = message.get("role")
        if isinstance(role, str) and (own := role_of(role)) not in (None, role):
            message["role"] = own
            kinds[ROLE_NAME] = None
        for function in _functions(message):
            arguments = function.get("arguments")
            if isinstance(arguments, dict):
                function["arguments"] = json.dumps(arguments, ensure_ascii=False)
                kinds[ARGUMENTS_OBJECT] = None
            elif isinstance(arguments, str) and (once := _decoded_once(arguments)) is not None:
                function["arguments"] = once
                kinds[ARGUMENTS_TWICE] = None
    return list(kinds)


def _messages(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    asked = row.get("input")
    lists = [row.get(key) for key in _LISTS] + [asked.get("messages") if isinstance(asked, dict) else None]
    for messages in lists:
        if isinstance(messages, list):
            yield from (message for message in messages if isinstance(message, dict))


def _functions(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    calls = message.get("tool_calls")
    found = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    for function in [*found, message.get("function_call")]:
        if isinstance(function, dict):
            yield function


def _decoded_once(arguments: str) -> str | None:
    """The object's JSON, where ``arguments`` is the JSON of a string that holds it, perhaps several times over; else None."""
    inner: object = arguments
    for _ in range(8):
        if not isinstance(inner, str) or not inner.lstrip().startswith('"'):
            break
        text = inner
        try:
            inner = orjson.loads(text)
        except orjson.JSONDecodeError:
            return None
        if isinstance(inner, str):
            try:
                if isinstance(orjson.loads(inner), dict):
                    return inner
            except orjson.JSONDecodeError:
                return None
    return None
