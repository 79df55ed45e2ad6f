"""A chat row as a ShareGPT conversation, tool calls included.

What it does: turns of ``human``, ``gpt`` and ``system``; the calls of one message as a turn ``function_call`` and their answers as the
turn ``observation`` after it; the tools beside them as JSON, as LLaMA-Factory reads it. ``tool_turns.py`` reads all of it back.
What it does not: write files. A row that would come back as another one is refused. Called by ``export_rows.py``.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from luthier.data.hermes_turns import answers_in, has_calls

_ROLES = {"system": "system", "developer": "system", "user": "human", "assistant": "gpt"}
Message = Mapping[str, Any]


class CannotHold(ValueError):
    """The format has no place for something of this row; the message follows "line N "."""


def sharegpt_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The conversation, and its tools where there are any.

    Raises:
        CannotHold: something has no place, or would not be read back as it is.
    """
    for key in row:
        if key not in ("messages", "tools") and row[key] is not None:
            raise CannotHold(f"has {key!r}, for which the format has no place.")
    turns: list[dict[str, str]] = []
    messages: Sequence[Message] = row["messages"]
    num_calls = at = 0
    while at < len(messages):
        message = messages[at]
        calls = message.get("tool_calls")
        content = text_of_message(message, "tool_calls", "tool_call_id")
        role = message["role"]
        if calls:
            if at and messages[at - 1]["role"] == "assistant":
                raise CannotHold("has calls right after another answer, and would come back as one message.")
            if content is not None:
                turns.append(_spoken(message["role"], content))
            turns.append({"from": "function_call", "value": _calls(calls, num_calls)})
            num_calls += len(calls)
            answers = _answers(messages, at, calls)
            at += len(answers)
            if answers:
                turns.append({"from": "observation", "value": _observation(answers)})
        elif content is None or role not in _ROLES:
            raise CannotHold(f"has a message of role {role!r}, for which the format has no place.")
        else:
            turns.append(_spoken(role, content))
        at += 1
    tools = row.get("tools")
    return {"conversations": turns, **({"tools": json.dumps([_bare(tool) for tool in tools], ensure_ascii=False)} if tools else {})}


def text_of_message(message: Message, *known: str) -> str | None:
    """The text of a message that has nothing else but keys that the caller knows; None where it has no content.

    Raises:
        CannotHold: it has another key, or a content in parts.
    """
    for key, value in message.items():
        if key not in ("role", "content", *known) and value is not None:
            raise CannotHold(f"has a message with {key!r}, for which the format has no place.")
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        raise CannotHold("has a content in parts, for which the format has no place.")
    return content


def _spoken(role: str, content: str) -> dict[str, str]:
    if role == "assistant" and has_calls(content):
        raise CannotHold("has an answer whose text looks like a tool call, and would come back as one.")
    return {"from": _ROLES[role], "value": content}


def _calls(calls: Sequence[Mapping[str, Any]], num_before: int) -> str:
    """The JSON of one call, or of a list of several; an id is written where counting does not give it."""
    made: list[dict[str, Any]] = []
    for number, call in enumerate(calls, start=num_before + 1):
        function = call["function"]
        if call.keys() - {"id", "type", "function"} or function.keys() - {"name", "arguments"} or not call["id"]:
            raise CannotHold("has a call with keys for which the format has no place.")
        given = {} if call["id"] == f"call_{number}" else {"id": call["id"]}
        made.append({**given, "name": function["name"], "arguments": _object(function["arguments"])})
    return json.dumps(made if len(made) > 1 else made[0], ensure_ascii=False)


def _object(arguments: str) -> dict[str, Any]:
    try:
        value = orjson.loads(arguments)
        repeats = isinstance(value, dict) and orjson.loads(orjson.dumps(value)) != json.loads(arguments)
    except (ValueError, RecursionError):
        value, repeats = None, False
    if not isinstance(value, dict) or repeats:
        raise CannotHold("has a call whose arguments are no JSON object; luthier data fix mends those that were encoded twice.")
    return value


def _answers(messages: Sequence[Message], at: int, calls: Sequence[Mapping[str, Any]]) -> list[str]:
    """The texts of the tool messages after the calls at ``at``, one for each call in their order; none where the row ends on the calls."""
    ids = [call["id"] for call in calls]
    given = [message for message in messages[at + 1 : at + 1 + len(ids)] if message["role"] == "tool"]
    if not given and at + 1 == len(messages):
        return []
    if [message["tool_call_id"] for message in given] != ids:
        raise CannotHold("has answers of tools in another order than their calls, or not to all of them.")
    texts = [text_of_message(message, "tool_call_id") for message in given]
    if any(text is None or answers_in(text) is not None for text in texts):
        raise CannotHold("has an answer of a tool that would not come back as it is.")
    return [text for text in texts if text is not None]


def _observation(answers: list[str]) -> str:
    return json.dumps(answers, ensure_ascii=False) if len(answers) > 1 else answers[0]


def _bare(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The function alone, where wrapping it again gives the same tool."""
    function = tool.get("function")
    is_plain = tool.keys() == {"type", "function"} and isinstance(function, dict) and not {"type", "function"} & function.keys()
    return function if is_plain and isinstance(function, dict) else tool
