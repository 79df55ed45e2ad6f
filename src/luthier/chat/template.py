"""Chat templates: messages to one text.

What it does: Jinja in an immutable sandbox, set up as transformers sets it up, so that a model's own template gives the same
text. What it does not: tokens (``renderer.py``), or say where an answer stands (``ranges.py``; ``{% generation %}`` marks are
accepted and not needed for that). Templates come only from a model's folder, never from a request.
Called by ``ranges.py``, ``habits.py`` and ``renderer.py``.
"""

import json
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from luthier.chat.forward import borders_of, with_borders
from luthier.chat.opaque import Looked, is_watchable, watched
from luthier.core.errors import InvalidRequest

PLAIN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}{{ eos_token or '<|im_end|>' }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, for chat rows on a base that has no template of its own. Its marks are ordinary text there; a turn ends with the tokenizer's own
end mark, so that an answer ends too."""


class _Generation(jinja2.ext.Extension):
    """The ``{% generation %}`` tag of some templates: its body stands as it is."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own declaration of the attribute

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """The body of the block."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Template:
    """One compiled chat template."""

    def __init__(self, source: str, marks: dict[str, str], *, watching: bool = False) -> None:
        """Compile.

        Args:
            source: Jinja text.
            marks: named marks that the template may write, such as ``bos_token``.
            watching: for messages with opaque texts (``opaque.py``): rendering ends with ``Looked`` where it asks too much of one.

        Raises:
            InvalidRequest: the template is not valid Jinja.
            Looked: it cannot be watched.
        """
        kind = jinja2.sandbox.ImmutableSandboxedEnvironment
        environment = (watched(kind) if watching else kind)(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
        )
        if not watching:
            environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _now
        try:
            if watching and not is_watchable(environment.parse(source)):
                raise Looked("captured text")
            self._template = environment.from_string(source)
            # A number that nobody can guess: no message can hold the border.
            self._border = f"\u27e6border {secrets.randbelow(10**24)}\u27e7"
            bordered = with_borders(environment, source, self._border)
            self._bordered = None if bordered is None else environment.from_string(bordered)
        except jinja2.TemplateError as error:
            raise InvalidRequest(f"The model's chat template is not valid: {error}") from error
        # A plain dict: Jinja's own chain of dicts is copied key by key for every rendering.
        for compiled in (self._template, self._bordered):
            if compiled is not None:
                compiled.globals = dict(compiled.globals)
        self._marks = marks

    def render(
        self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = (), add_generation_prompt: bool = False
    ) -> str:
        """The text.

        Raises:
            InvalidRequest: the template refuses these messages.
        """
        return self._render(self._template, messages, tools, add_generation_prompt)

    def render_with_borders(
        self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = (), add_generation_prompt: bool = False
    ) -> tuple[str, list[int] | None]:
        """The same text, and where each message begins in it and the last one ends; None where the template may look ahead.

        A template may write fewer messages than there are: those at the beginning are then written before the first border.

        Raises:
            InvalidRequest: the template refuses these messages.
        """
        if self._bordered is None:
            return self._render(self._template, messages, tools, add_generation_prompt), None
        return borders_of(self._render(self._bordered, messages, tools, add_generation_prompt), self._border)

    def _render(
        self, template: jinja2.Template, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]], add_generation_prompt: bool
    ) -> str:
        try:
            return template.render(
                messages=list(messages),
                tools=list(tools) or None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._marks,
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise InvalidRequest(f"The model's chat template refuses these messages: {error}", param="messages") from error


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> str:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
