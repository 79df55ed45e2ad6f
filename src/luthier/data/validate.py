"""Finds every fault of one row in OpenAI's wording, and makes an example of a sound one.

What it does: the four kinds of row: chat, prompt/completion, preference, reinforcement. What it does not: read files or
parse (``check.py``, ``parse.py``), decide a job's fate (``stage.py``), or judge single messages (``messages.py``). Called by
``check.py`` and ``stage.py``.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from luthier.core.conversation import Conversation, Message, Role
from luthier.core.data_faults import RULES, Severity
from luthier.core.examples import Example, LineError, PreferenceExample, RlExample, RowFormat, SftExample, SourceLine
from luthier.data.finding import Finding, quoted
from luthier.data.messages import find_in_messages, find_in_tools, message_of
from luthier.data.parse import parse_object
from luthier.data.positions import json_path

FORMAT_CODE = "invalid_file_format"
Method = Literal["supervised", "dpo", "reinforcement"]
_CHAT_KEYS = frozenset({"messages", "tools", "parallel_tool_calls", "functions"})
_COMPLETION_KEYS = frozenset({"prompt", "completion"})
_INPUT_KEYS = frozenset({"messages", "tools", "parallel_tool_calls"})
# The names now, and those of the first specification.
_OUTPUTS = (("preferred_output", "preferred_completion"), ("non_preferred_output", "non_preferred_completion"))
_PREFERENCE_KEYS = frozenset({"input", *_OUTPUTS[0], *_OUTPUTS[1]})
_SUPERVISED = (RowFormat.CHAT, RowFormat.PROMPT_COMPLETION)
_NAMES = {
    RowFormat.CHAT: "chat",
    RowFormat.PROMPT_COMPLETION: "prompt/completion",
    RowFormat.PREFERENCE: "preference",
    RowFormat.REINFORCEMENT: "reinforcement",
}


def parse_row(data: bytes, source: SourceLine) -> dict[str, Any] | LineError:
    """The JSON object of one line, or what is wrong with it."""
    row = parse_object(data)
    return line_error(row, source, message_code=FORMAT_CODE) if isinstance(row, Finding) else row


def format_of(row: Mapping[str, Any], method: Method = "supervised") -> RowFormat:
    """Which format a row belongs to. For supervised jobs its keys tell: prompt/completion has one of those and no ``messages``."""
    if method == "dpo":
        return RowFormat.PREFERENCE
    if method == "reinforcement":
        return RowFormat.REINFORCEMENT
    if "messages" not in row and not _COMPLETION_KEYS.isdisjoint(row):
        return RowFormat.PROMPT_COMPLETION
    return RowFormat.CHAT


def method_of(row: Mapping[str, Any]) -> Method:
    """The method that a file's first row is for, where nobody said it: a chosen and a rejected output are for preferences."""
    return "dpo" if "messages" not in row and not _PREFERENCE_KEYS.isdisjoint(row) else "supervised"


def findings_of(row: Mapping[str, Any], row_format: RowFormat) -> list[Finding]:
    """Every fault of a parsed row, in the order in which the API would meet them; none for a sound row."""
    found: list[Finding] = []
    # A row with neither format's keys is judged as what the file holds.
    if ("messages" in row) is not (row_format is RowFormat.CHAT) and row_format in _SUPERVISED:
        actual = format_of(row)
        if actual is not row_format and ("messages" in row or actual is RowFormat.PROMPT_COMPLETION):
            found.append(Finding("mixed_formats", f" is a {_NAMES[actual]} row in a file of {_NAMES[row_format]} rows."))
            return found
    _FINDERS[row_format](row, found)
    return found


def line_error(finding: Finding, source: SourceLine, *, message_code: str, column: int = 0) -> LineError:
    """The fault with its line, as jobs and reports tell it."""
    return LineError(
        source=source,
        code=message_code if finding.in_message else FORMAT_CODE,
        message=f"Example {source.line}{finding.text}",
        path=json_path(finding.path),
        rule=finding.rule,
        column=column or finding.column,
    )


def example_of(row: Mapping[str, Any], row_format: RowFormat, source: SourceLine) -> SftExample:
    """The example that a sound supervised row says."""
    if row_format is RowFormat.PROMPT_COMPLETION:
        messages = (Message(role=Role.USER, content=row["prompt"]), Message(role=Role.ASSISTANT, content=row["completion"]))
        return SftExample(source=source, conversation=Conversation(messages=messages))
    return SftExample(source=source, conversation=_conversation(row))


def any_example_of(row: Mapping[str, Any], row_format: RowFormat, source: SourceLine) -> Example:
    """The example that a sound row of any method says."""
    if row_format is RowFormat.PREFERENCE:
        better, worse = (message_of(row[name if name in row else earlier][0]) for name, earlier in _OUTPUTS)
        return PreferenceExample(source=source, prompt=_conversation(row["input"]), preferred=better, non_preferred=worse)
    if row_format is RowFormat.REINFORCEMENT:
        reference = {key: value for key, value in row.items() if key not in ("messages", "tools")}
        return RlExample(source=source, prompt=_conversation({**row, "functions": None}), reference=reference)
    return example_of(row, row_format, source)


def _conversation(plain: Mapping[str, Any]) -> Conversation:
    old = tuple({"type": "function", "function": function} for function in plain.get("functions") or ())
    return Conversation(messages=tuple(map(message_of, plain["messages"])), tools=tuple(plain.get("tools") or ()) + old)


def check_row(row: Mapping[str, Any], row_format: RowFormat, source: SourceLine, *, message_code: str) -> SftExample | LineError:
    """Make an example of a parsed supervised row, or tell its first fault.

    Args:
        row: the JSON object.
        row_format: the format of the file, which its first good row decides.
        source: file and line, kept in the result.
        message_code: error code for faults inside a message: ``invalid_training_file`` or ``invalid_validation_file``.
    """
    return first_error(row, row_format, source, message_code=message_code) or example_of(row, row_format, source)


def first_error(row: Mapping[str, Any], row_format: RowFormat, source: SourceLine, *, message_code: str) -> LineError | None:
    """The first fault of a parsed row of any format; None for a sound one. Warnings do not count."""
    for finding in findings_of(row, row_format):
        if RULES[finding.rule].severity is Severity.ERROR:
            return line_error(finding, source, message_code=message_code)
    return None


def _chat(row: Mapping[str, Any], found: list[Finding]) -> None:
    if "messages" not in row:
        if method_of(row) == "dpo":
            found.append(Finding("wrong_method", " is missing key 'messages'.", ("messages",)))
        else:
            found.append(Finding("missing_key", " is missing key 'messages'.", ("messages",)))
        return
    if not row.keys() <= _CHAT_KEYS:
        _extra(row, _CHAT_KEYS, found)
    messages = row["messages"]
    if not _has_messages(messages, found, ("messages",)):
        return
    if len(row) > 1:
        _parallel(row, found, ())
        find_in_tools(row, found)
    if not find_in_messages(messages, found, ("messages",)):
        return  # a message without a sound role may be the assistant's: its own fault is enough
    answered = False
    for message in reversed(messages):
        if message["role"] == "assistant":
            if message.get("weight") != 0:
                return
            answered = True
    if answered:
        text = " has no assistant message with weight 1; there is nothing to learn from."
        found.append(Finding("no_trained_assistant", text, ("messages",)))
    else:
        found.append(Finding("no_assistant", " has no assistant message; there is nothing to learn from.", ("messages",)))


def _completion(row: Mapping[str, Any], found: list[Finding]) -> None:
    _extra(row, _COMPLETION_KEYS, found)
    for key in ("prompt", "completion"):
        if key not in row:
            found.append(Finding("missing_key", f" is missing key '{key}'.", (key,)))
        elif not isinstance(row[key], str):
            found.append(Finding("bad_text", f" has a '{key}' that is not a string.", (key,)))
        elif key == "completion" and not row[key]:
            found.append(Finding("empty_completion", " has an empty 'completion'; there is nothing to learn from.", (key,)))


def _preference(row: Mapping[str, Any], found: list[Finding]) -> None:
    if "messages" in row and _PREFERENCE_KEYS.isdisjoint(row):
        found.append(Finding("wrong_method", " is missing key 'input'.", ("input",)))
        return
    _extra(row, _PREFERENCE_KEYS, found)
    if "input" not in row:
        found.append(Finding("missing_key", " is missing key 'input'.", ("input",)))
    else:
        _input(row["input"], found)
    before = len(found)
    outputs = [_output(row, *names, found) for names in _OUTPUTS]
    if len(found) == before and outputs[0] == outputs[1]:
        text = " has the same preferred and non-preferred output; there is no preference to learn."
        found.append(Finding("same_outputs", text, (_OUTPUTS[1][0] if _OUTPUTS[1][0] in row else _OUTPUTS[1][1],)))


def _input(asked: object, found: list[Finding]) -> None:
    if not isinstance(asked, dict):
        found.append(Finding("bad_input", " has an 'input' that is not an object with 'messages'.", ("input",)))
        return
    _extra(asked, _INPUT_KEYS, found, "input")
    _parallel(asked, found, ("input",))
    find_in_tools({"tools": asked.get("tools")}, found, ("input",))
    if "messages" not in asked:
        found.append(Finding("missing_key", " is missing key 'messages' in 'input'.", ("input", "messages")))
    elif _has_messages(asked["messages"], found, ("input", "messages")):
        find_in_messages(asked["messages"], found, ("input", "messages"), "input message")


def _output(row: Mapping[str, Any], name: str, earlier: str, found: list[Finding]) -> object:
    """Judge one of the two outputs; returns its content."""
    key = name if name in row or earlier not in row else earlier
    if key not in row:
        found.append(Finding("missing_key", f" is missing key '{key}'.", (key,)))
        return None
    output = row[key]
    if not isinstance(output, list) or len(output) != 1:
        found.append(Finding("bad_output", f" has a '{key}' that is not a list of exactly one assistant message.", (key,)))
        return None
    before = len(found)
    find_in_messages(output, found, (key,), f"{key} message")
    if len(found) > before:
        return None
    lead = f", {key} message 1 "
    if output[0]["role"] != "assistant":
        text = f"{lead}has the role {quoted(output[0]['role'])}, but must have 'assistant'"
        found.append(Finding("output_not_assistant", text, (key, 0, "role"), in_message=True))
    for calls in ("tool_calls", "function_call"):
        if output[0].get(calls) is not None:
            found.append(Finding("output_not_text", f"{lead}has tool calls, but must be text", (key, 0, calls), in_message=True))
    return output[0].get("content")


def _reinforcement(row: Mapping[str, Any], found: list[Finding]) -> None:
    # Every other key is the row's own, for graders to read as ``item``.
    if "messages" not in row:
        rule = "wrong_method" if method_of(row) == "dpo" else "missing_key"
        found.append(Finding(rule, " is missing key 'messages'.", ("messages",)))
        return
    messages = row["messages"]
    if not _has_messages(messages, found, ("messages",)):
        return
    find_in_tools({"tools": row.get("tools")}, found)
    last = len(messages) - 1
    if find_in_messages(messages, found, ("messages",)) and messages[-1]["role"] != "user":
        text = f", message {last + 1} must have the role 'user', because it is the last; it has {quoted(messages[-1]['role'])}"
        found.append(Finding("last_not_user", text, ("messages", last, "role"), in_message=True))


_FINDERS: Mapping[RowFormat, Callable[[Mapping[str, Any], list[Finding]], None]] = {
    RowFormat.CHAT: _chat,
    RowFormat.PROMPT_COMPLETION: _completion,
    RowFormat.PREFERENCE: _preference,
    RowFormat.REINFORCEMENT: _reinforcement,
}


def _has_messages(messages: object, found: list[Finding], path: tuple[str, ...]) -> bool:
    if isinstance(messages, list) and messages:
        return True
    found.append(Finding("bad_messages", " has a 'messages' that is not a list of at least one message.", path))
    return False


def _parallel(row: Mapping[str, Any], found: list[Finding], path: tuple[str, ...]) -> None:
    parallel = row.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        text = " has a 'parallel_tool_calls' that is not true or false."
        found.append(Finding("bad_parallel_tool_calls", text, (*path, "parallel_tool_calls")))


def _extra(row: Mapping[str, Any], allowed: frozenset[str], found: list[Finding], inside: str = "") -> None:
    for key in row:
        if key not in allowed:
            where = f" in '{inside}'" if inside else ""
            found.append(Finding("extra_key", f" contains an extra {quoted(key)}{where}.", (inside, key) if inside else (key,)))
