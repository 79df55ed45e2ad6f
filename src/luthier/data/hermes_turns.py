"""Tool calls that stand as marked text in a talk, taken out of the text.

What it does: ``<tool_call>{...}</tool_call>`` in the assistant's text, and ``<tool_response>...</tool_response>`` in the turn that
answers, of the role ``tool`` or (as templates like Qwen 2.5's write it) ``user``. What it does not: give calls their ids or match
them with answers (``tool_turns.py``, which calls it).

Form: Hermes', https://github.com/NousResearch/Hermes-Function-Calling; its data set holds objects in Python's quotes too.
"""

import ast
import re

_CALL = re.compile(r"<tool_call>\s*(?=[{\[])(.*?)\s*</tool_call>", re.DOTALL)
_OPENS = re.compile(r"<tool_call>\s*[{\[]")
"""A text that only speaks of the mark has no object after it."""
_ANSWERS = re.compile(r"\s*(?:<tool_response>.*?</tool_response>\s*)+", re.DOTALL)
_ANSWER = re.compile(r"<tool_response>\s*(.*?)\s*</tool_response>", re.DOTALL)


class LooseText(ValueError):
    """Text stands where the API has no place for it, or a call has no end; the message follows "message N "."""


def has_calls(content: object) -> bool:
    """Whether a text calls a tool."""
    return isinstance(content, str) and _OPENS.search(content) is not None


def cut_calls(content: str) -> tuple[str, list[str]]:
    """The words before the first call, and each call's own text.

    Raises:
        LooseText: words between or after the calls, or a call without its closing mark.
    """
    first = _OPENS.search(content)
    assert first is not None
    words, rest = content[: first.start()].rstrip(), content[first.start() :]
    calls = [match.group(1) for match in _CALL.finditer(rest)]
    beside = _CALL.sub("", rest).strip()
    if has_calls(beside):
        raise LooseText("has a <tool_call> without its </tool_call>.")
    if beside:
        raise LooseText("goes on in words after a tool call, for which the API has no place.")
    return words, calls


def answers_in(content: object) -> list[str] | None:
    """The answers of a turn that consists of ``<tool_response>`` blocks; None for any other one."""
    if not isinstance(content, str) or not _ANSWERS.fullmatch(content):
        return None
    return _ANSWER.findall(content)


def python_object(text: str) -> object:
    """A call in Python's quotes, such as ``{'name': 'f', 'arguments': {}}``; None where it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
