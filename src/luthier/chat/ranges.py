"""Where each message stands in a rendered text, and which answers can be learned there.

What it does: an answer begins where the generation prompt of the messages before it ends - what serving shows the model - and
ends with the mark that closes its turn. What it does not: tokens. Called by ``renderer.py``.

Some templates rewrite earlier turns (Qwen 3 takes thoughts out of them, Mistral moves the system text and the tools to the last
question). An answer that a later turn rewrites is not what the model will ever write, so it is not learned there: ``Located``
names it. ``Locator.example`` then still makes the last answer that has weight right, over exactly the prompt that serving renders.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.chat.template import Template
from luthier.core.errors import InvalidRequest

PROBE_ANSWER = "Qxzv"
"""A word that no template writes by itself."""
_USER = {"role": "user", "content": "a"}


@dataclass(frozen=True, slots=True)
class MessageRange:
    """Characters of one message; for an assistant message up to and with the mark that ends its turn."""

    message: int
    start: int
    end: int
    """Exclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A rendered text and where its messages stand."""

    text: str
    ranges: tuple[MessageRange, ...]
    """At most one per message, in order. An answer without one cannot be learned in this text; of another message, that the
    template does not show its content as it is."""
    answers: tuple[MessageRange, ...]
    """Those of assistant messages."""
    rewritten: tuple[int, ...] = ()
    """Messages that were to be learned and are not, because the template rewrites them when the talk goes on."""


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """What a template writes around an answer's content, beyond the generation prompt."""

    opening: str
    """Before it: often nothing, a space (Llama 2) or an empty thought (Qwen 3)."""
    closing: str
    """After it and before the mark that ends the turn: often nothing."""
    tail: str
    """That mark and what follows, such as a line end."""
    end_mark: str
    """The mark alone; empty where a template has none."""


class Locator:
    """Finds messages in what one template writes."""

    def __init__(self, template: Template, end_marks: Sequence[str]) -> None:
        """``end_marks`` are the texts of the tokenizer's special marks: the last one of a turn ends it."""
        self._template = template
        self._end_marks = tuple(end_marks)
        self.form: AnswerForm | None = self._probe()
        """None when the template refuses the simplest talk, or changes it."""

    def prompt(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()) -> Located:
        """What serving shows the model: the messages and the opening of an answer.

        Raises:
            InvalidRequest: the template refuses.
        """
        text, borders = self._template.render_with_borders(messages, tools=tools, add_generation_prompt=True)
        return _located(text, messages, self._answers(text, messages, tools, borders))

    def example(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]], learned: Collection[int]) -> Located:
        """A whole talk.

        Args:
            messages: plain dicts.
            tools: offered tools.
            learned: indices of the assistant messages that have weight.

        Returns:
            The template's own text where its last learned answer stands there as serving would see it written; otherwise the talk
            up to that answer, over serving's prompt.

        Raises:
            InvalidRequest: the template refuses.
        """
        text, borders = self._template.render_with_borders(messages, tools=tools)
        answers = self._answers(text, messages, tools, borders, complete=True)
        last = max(learned, default=None)
        if last is not None and last not in {r.message for r in answers}:
            messages = messages[: last + 1]
            text, answers = self._last_answer(messages, tools)
        found = {r.message for r in answers}
        return _located(text, messages, answers, tuple(i for i in sorted(learned) if i not in found))

    def _answers(
        self,
        text: str,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]],
        borders: list[int] | None = None,
        *,
        complete: bool = False,
    ) -> list[MessageRange]:
        ranges: list[MessageRange] = []
        # Of a template that looks at nothing ahead, one generation prompt tells all: it is the text up to the message's border and an
        # opening that is always the same (``forward.py``).
        before = None if borders is None else len(messages) - (len(borders) - 1)
        opening: str | None = None
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            border = borders[i - before] if borders is not None and before is not None and i >= before else None
            if border is not None and opening is not None:
                start = border + len(opening) if text.startswith(opening, border) else None
            else:
                start, prompt = self._start(text, messages[: i + 1], tools)
                opening = prompt[border:] if border is not None and prompt is not None and len(prompt) >= border else None
            if start is None:
                continue
            end = self._literal_end(text, start, message)
            if end is None:
                until = len(text) if complete and i == len(messages) - 1 else self._turn_end(text, messages[: i + 1], tools)
                if until is None or until < start:
                    continue
                end = self._past_last_mark(text, start, until)
            ranges.append(MessageRange(i, start, end))
        return ranges

    def _start(self, text: str, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]]) -> tuple[int | None, str | None]:
        """Where the last of these messages begins in the text, and the prompt that ends there."""
        try:
            opened = self._template.render(messages[:-1], tools=tools, add_generation_prompt=True)
        except InvalidRequest:
            # No prompt can ever ask for this answer (a talk that begins with it, for one): it stands where its text does.
            return self._content_start(self._template.render(messages, tools=tools), messages, tools), None
        return (len(opened), opened) if text.startswith(opened) else (None, None)

    def _literal_end(self, text: str, start: int, message: dict[str, Any]) -> int | None:
        """Past the end mark, where the content stands in the text as an answer is written; spares a rendering."""
        if self.form is None or message.get("tool_calls"):
            return None
        for content in (message["content"], message["content"].strip()):
            shown = f"{self.form.opening}{content}{self.form.closing}"
            if text.startswith(shown + self.form.tail, start):
                return start + len(shown) + (len(self.form.end_mark) or len(self.form.tail))
        return None

    def _turn_end(self, text: str, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]]) -> int | None:
        try:
            alone = self._template.render(messages, tools=tools)
        except InvalidRequest:
            return None
        return len(alone) if text.startswith(alone) else None

    def _past_last_mark(self, text: str, start: int, until: int) -> int:
        """Past the last special mark of a turn; where it has none, its end."""
        return max((at + len(mark) for mark in self._end_marks if (at := text.rfind(mark, start, until)) >= 0), default=until)

    def _last_answer(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]]) -> tuple[str, list[MessageRange]]:
        """The talk up to an answer, such that it begins with serving's prompt."""
        text = self._template.render(messages, tools=tools)
        opened = self._template.render(messages[:-1], tools=tools, add_generation_prompt=True)
        if not text.startswith(opened):
            text = opened + text[self._content_start(text, messages, tools) :]
        end = self._past_last_mark(text, len(opened), len(text))
        return text, [*self._answers(opened, messages[:-1], tools), MessageRange(len(messages) - 1, len(opened), end)]

    def _content_start(self, text: str, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]]) -> int:
        """Where another answer would make the text of this talk differ."""
        first = messages[-1]["content"].strip()[:1]
        other = {"role": "assistant", "content": ("R" if first == PROBE_ANSWER[0] else PROBE_ANSWER[0]) + PROBE_ANSWER}
        text_of_other = self._template.render([*messages[:-1], other], tools=tools)
        same = min(len(text), len(text_of_other))
        start = next((at for at in range(same) if text[at] != text_of_other[at]), same)
        opening = self.form.opening if self.form is not None else ""
        return start - len(opening) if text.endswith(opening, 0, start) else start

    def _probe(self) -> AnswerForm | None:
        talk = [_USER, {"role": "assistant", "content": PROBE_ANSWER}]
        try:
            opened = self._template.render(talk[:1], add_generation_prompt=True)
            text = self._template.render(talk)
        except InvalidRequest:
            return None
        at = text.find(PROBE_ANSWER)
        if at < 0:
            return None
        opening = text[len(opened) : at] if text.startswith(opened) else ""
        rest = text[at + len(PROBE_ANSWER) :]
        mark_end = self._past_last_mark(rest, 0, len(rest))
        marks = [mark for mark in self._end_marks if rest.endswith(mark, 0, mark_end)]
        end_mark = max(marks, key=len, default="")
        tail_at = mark_end - len(end_mark) if end_mark else 0
        return AnswerForm(opening=opening, closing=rest[:tail_at], tail=rest[tail_at:], end_mark=end_mark)


def _located(text: str, messages: Sequence[dict[str, Any]], answers: list[MessageRange], rewritten: tuple[int, ...] = ()) -> Located:
    """Adds the other messages, each sought between the answers around it."""
    known = {r.message: r for r in answers}
    ranges: list[MessageRange] = []
    at = 0
    for i, message in enumerate(messages):
        found = known.get(i)
        if found is None and message["role"] != "assistant" and (content := message["content"].strip()):
            limit = next((r.start for r in answers if r.message > i), len(text))
            start = text.find(content, at, limit)
            found = MessageRange(i, start, start + len(content)) if start >= 0 else None
        if found is not None:
            ranges.append(found)
            at = found.end
    return Located(text=text, ranges=tuple(ranges), answers=tuple(answers), rewritten=rewritten)
