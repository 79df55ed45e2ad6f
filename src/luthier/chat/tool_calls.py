"""Tool calls in an answer: the model's own text form taken out of the text while it streams, and read.

What it does: keeps text in the family's form (``families.py``) back, and reads the calls at the answer's end. What it does not: offer
tools (templates do) or give calls their ids (``api`` does). Called by ``deployment/generation.py``, one object per answer.
"""

import json
from typing import Any, NoReturn

from luthier.chat.families import LLAMA_TAGGED, CallForm
from luthier.chat.renderer import Renderer
from luthier.chat.stream import StreamDecoder, overlap
from luthier.core.generation import CalledTool

# How an answer begins that is a call without a mark, white space left out.
_BARE = '{"name"'


class ToolCallStream:
    """Text of an answer without its tool calls. What looks like calls and cannot be read stays text: nothing is lost.

    Where the form's opening is a special mark of the tokenizer, only that token opens calls: the same letters in a text do not.
    """

    def __init__(self, renderer: Renderer, form: CallForm, stop: tuple[str, ...] = ()) -> None:
        tokenizer = renderer.tokenizer
        openings = (form.opening,) if form.opening else (LLAMA_TAGGED.opening,)
        marks = {i for text in (*openings, form.closing) if text and (i := tokenizer.id_of(text)) is not None}
        self._shown = frozenset(marks)
        self._opening_id = tokenizer.id_of(openings[0]) if tokenizer.id_of(openings[0]) in tokenizer.special_ids else None
        around = renderer.answer_form
        opening, closing = (around.opening, around.closing) if around is not None else ("", "")
        self._tokenizer, self._stop = tokenizer, stop
        self._inner = StreamDecoder(tokenizer, stop=stop, shown=self._shown, opening=opening, closing=closing)
        self._form = form
        self._held = ""
        self._inside = False
        self._begun = False
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
        if token_id != self._opening_id or self._inside or self.stopped:
            return self._take(self._inner.push(token_id))
        before = self._take(self._inner.finish()) + self._held
        before = before.removesuffix(self._form.separator) if self._form.separator else before
        self._inner = StreamDecoder(self._tokenizer, stop=self._stop, shown=self._shown, continues=True)
        self._inside, self._held = True, ""
        self._held = self._inner.push(token_id)
        return before

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
        if not self._form.opening:
            return self._take_bare()
        if self._opening_id is not None:
            keep = overlap(self._held, self._form.separator + "\0") if self._form.separator else 0
            return self._release(len(self._held) - keep)
        at = self._held.find(self._form.opening)
        if at >= 0:
            self._inside = True
            before, self._held = self._held[:at], self._held[at:]
            return before.removesuffix(self._form.separator) if self._form.separator else before
        keep = max(overlap(self._held, self._form.opening), overlap(self._held, self._form.separator + self._form.opening))
        return self._release(len(self._held) - keep)

    def _take_bare(self) -> str:
        """Calls without a mark are the whole answer: its first letters decide."""
        if not self._begun:
            begin = "".join(self._held.split())
            if len(begin) < len(_BARE) and _BARE.startswith(begin):
                self._inside = False
                return ""
            self._begun = True
            if begin.startswith(_BARE):
                self._inside = True
                return ""
        return self._release(len(self._held))

    def _release(self, length: int) -> str:
        certain, self._held = self._held[:length], self._held[length:]
        return certain


def read_calls(text: str, form: CallForm) -> tuple[CalledTool, ...] | None:
    """The calls of a text that consists of calls and white space only; None for any other text."""
    decoder = json.JSONDecoder(strict=False, parse_constant=_refuse)
    opening = form.opening or LLAMA_TAGGED.opening
    calls: list[CalledTool] = []
    rest = text.strip()
    while rest:
        if form.opening and not rest.startswith(opening):
            return None
        rest = rest.removeprefix(opening).lstrip()
        try:
            plain, end = decoder.raw_decode(rest)
        except (ValueError, RecursionError):
            return None
        listed = [_call(entry) for entry in (plain if isinstance(plain, list) else [plain])]
        read = [call for call in listed if call is not None]
        if not read or len(read) != len(listed):
            return None
        calls += read
        rest = rest[end:].lstrip().removeprefix(form.closing).lstrip()
        rest = rest.removeprefix(form.between).lstrip() if form.between else rest
    return tuple(calls) or None


def _call(plain: Any) -> CalledTool | None:
    """A call by any family's names: arguments are ``parameters`` in Llama's form."""
    if not isinstance(plain, dict) or not isinstance(plain.get("name"), str) or not plain["name"]:
        return None
    arguments = plain.get("arguments", plain.get("parameters", {}))
    if isinstance(arguments, str):
        return CalledTool(name=plain["name"], arguments=arguments)
    return CalledTool(name=plain["name"], arguments=json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, dict) else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
