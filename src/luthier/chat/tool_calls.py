"""Tool calls in an answer: the model's own text form taken out of the text while it streams, and read.

What it does: knows the forms of the families whose templates write calls as a mark and a JSON object, keeps such text back, and
reads the calls at the answer's end. What it does not: offer tools (templates do) or give calls their ids (``api`` does).
Called by ``deployment/generation.py``, one object per answer.
"""

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from luthier.chat.renderer import Renderer
from luthier.chat.stream import StreamDecoder, overlap
from luthier.core.generation import CalledTool


@dataclass(frozen=True, slots=True)
class CallForm:
    """How a family writes one call: ``opening``, a JSON object with ``name`` and ``arguments``, ``closing`` (may be empty)."""

    opening: str
    closing: str


# luthier-mini; Hermes, Qwen and others that follow them.
FORMS = (CallForm("<|tool_call|>", ""), CallForm("<tool_call>", "</tool_call>"))


def call_form(renderer: Renderer) -> CallForm | None:
    """The form that a model's template writes; None when it writes none that is known."""
    source = renderer.template_source or ""
    return next((form for form in FORMS if form.opening in source), None)


class ToolCallStream:
    """Text of an answer without its tool calls. What looks like calls and cannot be read stays text: nothing is lost."""

    def __init__(self, renderer: Renderer, form: CallForm, stop: tuple[str, ...] = ()) -> None:
        marks = (renderer.tokenizer.id_of(mark) for mark in (form.opening, form.closing) if mark)
        self._inner = StreamDecoder(renderer.tokenizer, stop=stop, shown=frozenset(i for i in marks if i is not None))
        self._form = form
        self._held = ""
        self._inside = False
        self._calls: tuple[CalledTool, ...] = ()

    @property
    def stopped(self) -> bool:
        """True once a stop string was met."""
        return self._inner.stopped

    @property
    def tool_calls(self) -> tuple[CalledTool, ...]:
        """The calls; empty before ``finish``."""
        return self._calls

    def push(self, token_id: int) -> str:
        """The text before the first call that this token makes certain."""
        return self._take(self._inner.push(token_id))

    def finish(self) -> str:
        """The text held back so far, unless it is calls."""
        text = self._take(self._inner.finish())
        rest, self._held = self._held, ""
        if self._inside:
            calls = read_calls(rest, self._form)
            if calls is not None:
                self._calls = calls
                return text
        return text + rest

    def _take(self, text: str) -> str:
        self._held += text
        if self._inside:
            return ""
        at = self._held.find(self._form.opening)
        self._inside = at >= 0
        if at < 0:
            at = len(self._held) - overlap(self._held, self._form.opening)
        certain, self._held = self._held[:at], self._held[at:]
        return certain


def read_calls(text: str, form: CallForm) -> tuple[CalledTool, ...] | None:
    """The calls of a text that consists of calls and white space only; None for any other text."""
    decoder = json.JSONDecoder(strict=False, parse_constant=_refuse)
    calls: list[CalledTool] = []
    rest = text.strip()
    while rest:
        if not rest.startswith(form.opening):
            return None
        rest = rest.removeprefix(form.opening).lstrip()
        try:
            plain, end = decoder.raw_decode(rest)
            call = _call(plain)
        except (ValueError, RecursionError):
            return None
        if call is None:
            return None
        calls.append(call)
        rest = rest[end:].lstrip().removeprefix(form.closing).lstrip()
    return tuple(calls)


def _call(plain: Any) -> CalledTool | None:
    if not isinstance(plain, dict) or not isinstance(plain.get("name"), str) or not plain["name"]:
        return None
    arguments = plain.get("arguments", {})
    if isinstance(arguments, str):
        return CalledTool(name=plain["name"], arguments=arguments)
    return CalledTool(name=plain["name"], arguments=json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, dict) else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
