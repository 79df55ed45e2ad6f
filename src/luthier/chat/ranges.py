"""Where each message stands in a rendered text.

What it does: character ranges, by ``{% generation %}`` marks where a template has them, otherwise by rendering prefixes of the
conversation. What it does not: tokens. Called by ``renderer.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luthier.chat.template import Template
from luthier.core.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class MessageRange:
    """Characters of one message; for an assistant message up to and with the mark that ends its turn."""

    message: int
    start: int
    end: int
    """Exclusive."""


def locate_messages(
    template: Template,
    messages: Sequence[dict[str, Any]],
    *,
    tools: Sequence[dict[str, Any]] = (),
    add_generation_prompt: bool = False,
    end_marks: Sequence[str] = (),
) -> tuple[str, list[MessageRange]]:
    """Render and locate.

    Args:
        template: the compiled chat template.
        messages: plain dicts.
        tools: offered tools.
        add_generation_prompt: open an assistant turn at the end.
        end_marks: texts of special marks; the first one after an assistant's content ends its turn.

    Returns:
        The text, and one range per message in order. A message that is not an assistant's and whose content does not
        stand in the text as it is (a template may change it) has none.

    Raises:
        InvalidRequest: the template refuses, or an assistant message cannot be found in its output.
    """
    text, blocks = template.render(messages, tools=tools, add_generation_prompt=add_generation_prompt)
    num_answers = sum(m["role"] == "assistant" for m in messages)
    marked = iter(blocks) if len(blocks) == num_answers else None
    ranges: list[MessageRange] = []
    at = 0
    for i, message in enumerate(messages):
        if message["role"] == "assistant":
            if marked is not None:
                start, end = next(marked)
                end = _with_end_mark(text, start, end, end_marks)
            else:
                start = _start_of_answer(template, messages, i, tools=tools, text=text, at=at)
                shown = message["content"].strip()
                found = text.find(shown, start)
                end = _end_of_answer(text, found + len(shown) if found >= 0 else start, end_marks)
            ranges.append(MessageRange(i, start, end))
            at = end
        else:
            content = message["content"].strip()
            start = text.find(content, at) if content else -1
            if start >= 0:
                ranges.append(MessageRange(i, start, start + len(content)))
                at = start + len(content)
    return text, _in_order(ranges)


def _in_order(ranges: list[MessageRange]) -> list[MessageRange]:
    """Without those that a wrong find put over a later assistant range."""
    kept: list[MessageRange] = []
    limit = None
    for r in reversed(ranges):
        if limit is None or r.end <= limit:
            kept.append(r)
            limit = r.start
    return kept[::-1]


def _with_end_mark(text: str, start: int, end: int, end_marks: Sequence[str]) -> int:
    """Past the special mark that follows the block, unless the block itself ends with one."""
    if any(text[start:end].rstrip().endswith(mark) for mark in end_marks):
        return end
    follows = [mark for mark in end_marks if text.startswith(mark, end)]
    return end + max(map(len, follows)) if follows else end


def _start_of_answer(
    template: Template, messages: Sequence[dict[str, Any]], index: int, *, tools: Sequence[dict[str, Any]], text: str, at: int
) -> int:
    try:
        before, _ = template.render(messages[:index], tools=tools, add_generation_prompt=True)
        if at <= len(before) and text.startswith(before):
            return len(before)
    except InvalidRequest:
        pass  # Some templates refuse a beginning that a whole conversation does not show; then the content is searched.
    found = text.find(messages[index]["content"].strip(), at)
    if found < 0:
        raise InvalidRequest(
            "The model's chat template changes assistant messages so that they cannot be found in its output.", param="messages"
        )
    return found


def _end_of_answer(text: str, content_end: int, end_marks: Sequence[str]) -> int:
    """Past the first special mark; where a template writes none, the end of the line."""
    ends = [(at, -len(mark)) for mark in end_marks if (at := text.find(mark, content_end)) >= 0]
    if ends:
        at, length = min(ends)
        return at - length
    line_end = text.find("\n", content_end)
    return len(text) if line_end < 0 else line_end + 1
