"""Tool calls and their answers as ShareGPT talks have them, as the API's messages.

What it does: a turn of role ``function_call``, or calls marked in the assistant's text (``hermes_turns.py``), become the assistant's
``tool_calls``, and a turn of role ``observation`` the ``tool`` message that answers the next of them; ids are counted in each talk;
bare functions become ``tools``. What it does not: judge the talk (``validate.py``). Called by ``columns.py``.

Form: LLaMA-Factory's ShareGPT rows, whose call is the JSON of ``{"name", "arguments"}`` or of a list of such objects.
"""

import json
from collections import Counter
from typing import Any

import orjson

from luthier.data.hermes_turns import LooseText, answers_in, cut_calls, has_calls, python_object
from luthier.data.role_names import role_of

_CALL_ROLES = frozenset({"function_call", "function-call", "tool_call"})
_ANSWER_ROLES = frozenset({"observation", "tool", "tool_response", "function_response", "function-response"})
_CALL_KEYS = frozenset({"id", "type", "function", "name", "arguments", "parameters"})


class CannotMap(ValueError):
    """A row does not become a chat row; the message follows "line N: "."""


def with_tool_messages(turns: list[dict[str, Any]], unused: Counter[str]) -> list[dict[str, Any]]:
    """The messages with their call turns and observations in the API's form; a talk without any comes back as it is.

    Raises:
        CannotMap: a call that cannot be read, or an observation without a call.
    """
    if not any(_role(turn) in _CALL_ROLES or _is_loose_answer(turn) or _is_marked_call(turn) for turn in turns):
        return turns
    messages: list[dict[str, Any]] = []
    waiting: list[str] = []
    num_calls = 0
    for number, turn in enumerate(turns, start=1):
        if _role(turn) in _CALL_ROLES:
            calls = _calls(number, turn.get("content"), num_calls, unused)
            num_calls += len(calls)
            waiting += [call["id"] for call in calls]
            _add_calls(messages, calls)
        elif _is_marked_call(turn):
            message = _marked_calls(number, turn, num_calls, unused)
            num_calls += len(message["tool_calls"])
            waiting = [call["id"] for call in message["tool_calls"]]
            messages.append(message)
        elif _is_loose_answer(turn) or (waiting and role_of(_role(turn)) == "user" and answers_in(turn.get("content"))):
            messages += _answers(number, turn, waiting)
        else:
            waiting = _waiting_after(turn, waiting)
            messages.append(turn)
    return messages


def as_tools(value: object) -> object:
    """The offered tools, with a function that stands bare in the API's wrapping; nothing for an empty list."""
    if not isinstance(value, list):
        return value
    is_bare = [isinstance(tool, dict) and "name" in tool and not {"type", "function"} & tool.keys() for tool in value]
    return [{"type": "function", "function": tool} if bare else tool for tool, bare in zip(value, is_bare, strict=True)] or None


def _role(turn: dict[str, Any]) -> str:
    role = turn["role"]
    return role.strip().lower() if isinstance(role, str) else ""


def _is_loose_answer(turn: dict[str, Any]) -> bool:
    return _role(turn) in _ANSWER_ROLES and "tool_call_id" not in turn


def _is_marked_call(turn: dict[str, Any]) -> bool:
    return role_of(_role(turn)) == "assistant" and not {"tool_calls", "function_call"} & turn.keys() and has_calls(turn.get("content"))


def _marked_calls(number: int, turn: dict[str, Any], num_before: int, unused: Counter[str]) -> dict[str, Any]:
    """The assistant's message with the calls of its text taken out; what was said before them stays."""
    try:
        words, texts = cut_calls(turn["content"])
    except LooseText as error:
        raise CannotMap(f"message {number} {error}") from error
    calls: list[dict[str, Any]] = []
    for text in texts:
        calls += _calls(number, text, num_before + len(calls), unused)
    rest = {key: value for key, value in turn.items() if key != "content"}
    return {**rest, **({"content": words} if words else {}), "tool_calls": calls}


def _add_calls(messages: list[dict[str, Any]], calls: list[dict[str, Any]]) -> None:
    """Give the calls to the assistant's message just before, whose turn goes on with them, or to a new one."""
    if messages and role_of(_role(messages[-1])) == "assistant" and "function_call" not in messages[-1]:
        before = messages[-1].get("tool_calls")
        messages[-1]["tool_calls"] = [*before, *calls] if isinstance(before, list) else calls
    else:
        messages.append({"role": "assistant", "tool_calls": calls})


def _calls(number: int, value: object, num_before: int, unused: Counter[str]) -> list[dict[str, Any]]:
    if isinstance(value, str):
        value = _parsed(number, value)
    plain = value if isinstance(value, list) else [value]
    if not plain:
        raise CannotMap(f"message {number}, a function call, has no call in it.")
    return [_call(number, call, f"call_{num_before + place}", unused) for place, call in enumerate(plain, start=1)]


def _parsed(number: int, text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # What JSON has no form for (a set, half a character) is no call either.
        if isinstance(plain := python_object(text), dict | list):
            try:
                return orjson.loads(orjson.dumps(plain))
            except orjson.JSONEncodeError:
                pass
        raise CannotMap(f"message {number}, a function call, is not valid JSON: {error.msg}.") from error


def _call(number: int, call: object, fresh_id: str, unused: Counter[str]) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise CannotMap(f"message {number}, a function call, is not an object with the function's name and arguments.")
    arguments = function.get("arguments", function.get("parameters", {}))
    if not isinstance(arguments, dict | str):
        raise CannotMap(f"message {number}, a function call, has arguments that are not an object.")
    for key in (call.keys() | function.keys()) - _CALL_KEYS:
        unused[f"{key} (of calls)"] += 1
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    given = call.get("id")
    call_id = given if isinstance(given, str) and given else fresh_id
    return {"id": call_id, "type": "function", "function": {"name": function["name"], "arguments": text}}


def _answers(number: int, turn: dict[str, Any], waiting: list[str]) -> list[dict[str, Any]]:
    """The answer to the next call that waits; a list with as many values as calls wait is one answer to each."""
    if not waiting:
        raise CannotMap(f"message {number}, an observation, answers no call before it.")
    content = turn.get("content")
    contents: list[Any] = [content]
    if (marked := answers_in(content)) is not None:
        contents = marked
        if len(marked) > len(waiting):
            raise CannotMap(f"message {number} has {len(marked)} <tool_response>, and there are {len(waiting)} calls to answer.")
    elif len(waiting) > 1 and (several := _list_in(content)) is not None and len(several) == len(waiting):
        contents = several
    made = [{**turn, "role": "tool", "tool_call_id": call_id} for call_id in waiting[: len(contents)]]
    del waiting[: len(contents)]
    for message, value in zip(made, contents, strict=True):
        if value is None and value is content:
            continue  # nothing was said: that is for the check of the row to name
        message["content"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return made


def _list_in(content: object) -> list[Any] | None:
    if isinstance(content, str) and content.lstrip().startswith("["):
        try:
            content = orjson.loads(content)
        except orjson.JSONDecodeError:
            return None
    return content if isinstance(content, list) else None


def _waiting_after(turn: dict[str, Any], waiting: list[str]) -> list[str]:
    """The calls that wait for an answer after a message in the API's own form."""
    calls = turn.get("tool_calls")
    if isinstance(calls, list):
        return [call["id"] for call in calls if isinstance(call, dict) and isinstance(call.get("id"), str)]
    return [call_id for call_id in waiting if call_id != turn.get("tool_call_id")]
