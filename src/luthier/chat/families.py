"""How families of models write tool calls.

What it does: the forms of the known families, recognised by what their templates write; for any other template, the form that it
shows when it is asked to write a call. What it does not: read calls (``tool_calls.py``). Called by ``deployment/generation.py``.

All forms are an opening, JSON that names the function and its arguments, and a closing that may be empty. To add a family: an entry
in ``FORMS``, its template in ``tests/support/templates``, and a line in ``tests/support/template_families.py``.
"""

import json
from dataclasses import dataclass
from typing import Any

from luthier.chat.renderer import Renderer
from luthier.chat.template import Template
from luthier.core.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class CallForm:
    """How a family writes calls: ``opening``, an object with name and arguments or a list of such, ``closing`` (may be empty)."""

    opening: str
    """Empty: the answer itself is the JSON."""
    closing: str = ""
    separator: str = ""
    """What the template puts between an answer's words and its calls."""
    between: str = ""
    """What may stand between two calls, besides white space."""


LUTHIER = CallForm("<|tool_call|>")
"""luthier-mini: an object after each mark. Granite 3: a list after one mark."""
HERMES = CallForm("<tool_call>", "</tool_call>", separator="\n")
"""Hermes, Qwen 2.5 and 3, SmolLM 3: an object between each pair of marks."""
PHI4 = CallForm("<|tool_call|>", "<|/tool_call|>")
"""Phi 4: a list between marks."""
MISTRAL = CallForm("[TOOL_CALLS]")
"""Mistral: a list after one mark, each call with its id."""
LLAMA_TAGGED = CallForm("<|python_tag|>", between=";")
"""Llama 3 where its template writes calls after that mark."""
LLAMA = CallForm("", between=";")
"""Llama 3.1 and later: ``{"name": ..., "parameters": {...}}`` is the whole answer; a mark before it is read as well."""

FORMS = (MISTRAL, PHI4, LUTHIER, HERMES)
"""Told by their marks in a template, in this order."""

_NAME = "luthier_probe"
_CALL: dict[str, Any] = {"id": "callProbe", "type": "function", "function": {"name": _NAME, "arguments": {"probe": 1}}}
_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": _NAME, "description": "", "parameters": {"type": "object", "properties": {"probe": {"type": "integer"}}}},
}


def call_form(renderer: Renderer) -> CallForm | None:
    """The form that a model's template writes; None when it writes none that can be read."""
    source = renderer.template_source
    if source is None:
        return None
    known = next((form for form in FORMS if form.opening in source and form.closing in source), None)
    return known or asked_form(Template(source, renderer.tokenizer.marks()), renderer)


def asked_form(template: Template, renderer: Renderer) -> CallForm | None:
    """The form of a call that the template is asked to write; None when it writes no call in JSON."""
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [_CALL]}]
    try:
        opened = template.render(talk[:1], tools=[_TOOL], add_generation_prompt=True)
        text = template.render(talk, tools=[_TOOL])
    except InvalidRequest:
        return None
    if not text.startswith(opened):
        return None
    text = text[len(opened) :]
    decoder = json.JSONDecoder()
    for start in (at for at, letter in enumerate(text) if letter in "{["):
        try:
            value, end = decoder.raw_decode(text, start)
        except ValueError:
            continue
        first = value[0] if isinstance(value, list) and value else value
        if not isinstance(first, dict) or first.get("name") != _NAME or not {"arguments", "parameters"} & first.keys():
            continue
        marks = renderer.tokenizer.added_texts()
        ends = [at for mark in marks if (at := text.find(mark, end)) >= 0]
        closing = text[end : min(ends, default=len(text))].strip()
        opening = text[:start].strip()
        if not opening:
            return LLAMA
        return CallForm(opening, closing)
    return None
