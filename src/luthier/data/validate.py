"""Checks one row of a training file and makes an example of it, or names its fault in OpenAI's wording.

What it does: strict JSON (no NaN, no lone surrogates, no deep nesting, UTF-8 only), the chat row and the
prompt/completion row. What it does not: read files or decide a job's fate (``stage.py``), or check single messages
(``messages.py``). Called by ``stage.py``.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from luthier.core.conversation import Conversation, Message, Role
from luthier.core.examples import LineError, RowFormat, SftExample, SourceLine
from luthier.data.messages import MessageFault, check_messages, check_tools, quoted

FORMAT_CODE = "invalid_file_format"
_CHAT_KEYS = frozenset({"messages", "tools", "parallel_tool_calls", "functions"})
_COMPLETION_KEYS = frozenset({"prompt", "completion"})
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class RowFault(Exception):
    """A fault of a whole row; ``message`` follows "Example N "."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path


def parse_row(data: bytes, source: SourceLine) -> dict[str, Any] | LineError:
    """The JSON object of one line, or what is wrong with it."""
    if data.startswith(_UTF16_MARKS):
        return _format_error(source, "is encoded as UTF-16; the file must be UTF-8.")
    try:
        row = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return _format_error(source, f"is not valid JSON: {error.msg} at byte {_byte_position(data, error)}.")
    if not isinstance(row, dict):
        return _format_error(source, f"is not a JSON object but {_kind(row)}.")
    return row


def format_of(row: Mapping[str, Any]) -> RowFormat:
    """Which format a row belongs to: prompt/completion when it has one of those keys and no ``messages``."""
    if "messages" not in row and not _COMPLETION_KEYS.isdisjoint(row):
        return RowFormat.PROMPT_COMPLETION
    return RowFormat.CHAT


def check_row(row: Mapping[str, Any], row_format: RowFormat, source: SourceLine, *, message_code: str) -> SftExample | LineError:
    """Make an example of a parsed row.

    Args:
        row: the JSON object.
        row_format: the format of the file, which its first good row decides.
        source: file and line, kept in the result.
        message_code: error code for faults inside a message: ``invalid_training_file`` or ``invalid_validation_file``.
    """
    try:
        found = format_of(row)
        if found is not row_format and ("messages" in row or found is RowFormat.PROMPT_COMPLETION):
            raise RowFault(f"is a {_NAMES[found]} row in a file of {_NAMES[row_format]} rows.")
        conversation = _chat(row) if row_format is RowFormat.CHAT else _completion(row)
    except RowFault as fault:
        return LineError(source=source, code=FORMAT_CODE, message=f"Example {source.line} {fault.message}", path=fault.path)
    except MessageFault as fault:
        where = f"Example {source.line}, message {fault.index + 1} {fault.message}"
        return LineError(source=source, code=message_code, message=where, path=f"messages[{fault.index}]{fault.path}")
    return SftExample(source=source, conversation=conversation)


_NAMES = {RowFormat.CHAT: "chat", RowFormat.PROMPT_COMPLETION: "prompt/completion"}


def _chat(row: Mapping[str, Any]) -> Conversation:
    if "messages" not in row:
        raise RowFault("is missing key 'messages'.", "messages")
    _only(row, _CHAT_KEYS)
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        raise RowFault("has a 'messages' that is not a list of at least one message.", "messages")
    parallel = row.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        raise RowFault("has a 'parallel_tool_calls' that is not true or false.", "parallel_tool_calls")
    fault = check_tools(row)
    if fault is not None:
        raise RowFault(*fault)
    conversation = Conversation(messages=check_messages(messages), tools=_tools(row))
    if not any(m.role is Role.ASSISTANT for m in conversation.messages):
        raise RowFault("has no assistant message; there is nothing to learn from.", "messages")
    if not any(m.role is Role.ASSISTANT and m.weight > 0 for m in conversation.messages):
        raise RowFault("has no assistant message with weight 1; there is nothing to learn from.", "messages")
    return conversation


def _completion(row: Mapping[str, Any]) -> Conversation:
    _only(row, _COMPLETION_KEYS)
    for key in ("prompt", "completion"):
        if key not in row:
            raise RowFault(f"is missing key '{key}'.", key)
        if not isinstance(row[key], str):
            raise RowFault(f"has a '{key}' that is not a string.", key)
    if not row["completion"]:
        raise RowFault("has an empty 'completion'; there is nothing to learn from.", "completion")
    messages = (Message(role=Role.USER, content=row["prompt"]), Message(role=Role.ASSISTANT, content=row["completion"]))
    return Conversation(messages=messages)


def _tools(row: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    old = tuple({"type": "function", "function": function} for function in row.get("functions") or ())
    return tuple(row.get("tools") or ()) + old


def _only(row: Mapping[str, Any], allowed: frozenset[str]) -> None:
    for key in row:
        if key not in allowed:
            raise RowFault(f"contains an extra {quoted(key)}.", key[:64])


def _format_error(source: SourceLine, message: str) -> LineError:
    return LineError(source=source, code=FORMAT_CODE, message=f"Example {source.line} {message}")


def _byte_position(data: bytes, error: orjson.JSONDecodeError) -> int:
    # ``pos`` counts characters; invalid UTF-8 leaves no characters to count, so the position comes from the decoder.
    try:
        return len(data.decode()[: error.pos].encode()) + 1
    except UnicodeDecodeError as fault:
        return fault.start + 1


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return "a string"
    return "null" if value is None else "a number or boolean"
