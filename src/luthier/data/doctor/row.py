"""One sound row as the doctor's checks see it: its texts in order, its prompt and its answer.

What it does: reads chat, prompt/completion, preference and reinforcement rows into one shape. What it does not: check them
(``data/validate.py``) or keep them. Called by ``examine.py``; every check and detector is given its rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.core.examples import RowFormat

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_PREFERRED = ("preferred_output", "preferred_completion")
_NON_PREFERRED = ("non_preferred_output", "non_preferred_completion")


@dataclass(slots=True, kw_only=True)
class RowText:
    """One text of a row. Not frozen only because a large file makes millions of them; nobody changes one."""

    path: str
    """JSON path: ``messages[1].content``, ``prompt``, ``preferred_output[0].content``."""
    role: str
    """``system``, ``user``, ``assistant`` or ``tool``."""
    text: str
    trained: bool
    """Whether the model learns to say it. A non-preferred output is False: the model learns not to say it."""


@dataclass(slots=True, kw_only=True)
class DoctorRow:
    """One row. Not frozen only because a large file makes many of them; nobody changes one."""

    line: int
    """1-based line of the file."""
    texts: tuple[RowText, ...]
    """Every text in order, the arguments of tool calls too; empty texts are there."""
    prompt: str
    """What stands before the last trained answer: ``role: text``, a line each."""
    answer: str
    """The last trained answer of the assistant; each call of a tool in it is a line ``name arguments``. Empty where there is none."""


def row_of(row: Mapping[str, Any], row_format: RowFormat, line: int) -> DoctorRow:
    """The row in the doctor's shape. Expects a row that ``data/validate.py`` finds sound."""
    if row_format is RowFormat.PROMPT_COMPLETION:
        prompt, completion = row["prompt"], row["completion"]
        texts = [
            RowText(path="prompt", role="user", text=prompt, trained=False),
            RowText(path="completion", role="assistant", text=completion, trained=True),
        ]
        return DoctorRow(line=line, texts=tuple(texts), prompt=f"user: {prompt}", answer=completion)
    if row_format is RowFormat.PREFERENCE:
        return _preference(row, line)
    return _talk(row["messages"], line, answered=row_format is RowFormat.CHAT)


def _talk(messages: Sequence[Mapping[str, Any]], line: int, *, answered: bool) -> DoctorRow:
    texts: list[RowText] = []
    start, last = 0, -1
    for index, message in enumerate(messages):
        role, content = _ROLES[message["role"]], message.get("content")
        trained = answered and role == "assistant" and message.get("weight") != 0
        if trained:
            start, last = len(texts), index
        if type(content) is str and len(message) == 2:  # most messages of most files
            texts.append(RowText(path=f"messages[{index}].content", role=role, text=content, trained=trained))
        else:
            _add(texts, message, f"messages[{index}]", trained=trained)
    if last < 0:
        return DoctorRow(line=line, texts=tuple(texts), prompt=_joined(texts), answer="")
    return DoctorRow(line=line, texts=tuple(texts), prompt=_joined(texts[:start]), answer=_said(messages[last]))


def _preference(row: Mapping[str, Any], line: int) -> DoctorRow:
    texts: list[RowText] = []
    for index, message in enumerate(row["input"]["messages"]):
        _add(texts, message, f"input.messages[{index}]", trained=False)
    prompt, answer = _joined(texts), ""
    for names, trained in ((_PREFERRED, True), (_NON_PREFERRED, False)):
        name = names[0] if names[0] in row else names[1]
        for index, message in enumerate(row[name]):
            _add(texts, message, f"{name}[{index}]", trained=trained)
            answer = _said(message) if trained else answer
    return DoctorRow(line=line, texts=tuple(texts), prompt=prompt, answer=answer)


def _add(texts: list[RowText], message: Mapping[str, Any], path: str, *, trained: bool) -> None:
    role, content = _ROLES[message["role"]], message.get("content")
    if isinstance(content, str):
        texts.append(RowText(path=f"{path}.content", role=role, text=content, trained=trained))
    elif isinstance(content, list):
        for number, part in enumerate(content):
            key = "refusal" if part["type"] == "refusal" else "text"
            texts.append(RowText(path=f"{path}.content[{number}].{key}", role=role, text=part[key], trained=trained))
    elif message.get("refusal"):
        texts.append(RowText(path=f"{path}.refusal", role=role, text=message["refusal"], trained=trained))
    if len(message) > 2:
        for place, function in _calls(message):
            texts.append(RowText(path=f"{path}.{place}.arguments", role=role, text=function["arguments"], trained=trained))


def _calls(message: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Place and function of each call in a message."""
    old = message.get("function_call")
    if old is not None:
        return [("function_call", old)]
    return [(f"tool_calls[{number}].function", call["function"]) for number, call in enumerate(message.get("tool_calls") or ())]


def _said(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if type(content) is str and len(message) == 2:
        return content
    if isinstance(content, list):
        content = "".join(part["refusal" if part["type"] == "refusal" else "text"] for part in content)
    said = content or message.get("refusal") or ""
    calls = [f"{function['name']} {function['arguments']}" for _, function in _calls(message)]
    return "\n".join([said, *calls] if said else calls)


def _joined(texts: Sequence[RowText]) -> str:
    return "\n".join([f"{text.role}: {text.text}" for text in texts])
