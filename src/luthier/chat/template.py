"""Chat templates: messages to one text, with the ranges that ``{% generation %}`` marks.

What it does: Jinja in an immutable sandbox, set up as transformers sets it up, so that a model's own template gives the same
text. What it does not: tokens (``renderer.py``). Templates come only from a model's folder, never from a request.
Called by ``renderer.py``.
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from luthier.core.errors import InvalidRequest

PLAIN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}{{ eos_token or '<|im_end|>' }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, for chat rows on a base that has no template of its own. Its marks are ordinary text there; a turn ends with the tokenizer's own
end mark, so that an answer ends too."""


class _Generation(jinja2.ext.Extension):
    """The ``{% generation %}`` tag: notes where assistant text stands in the output, as transformers does."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own declaration of the attribute

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)
        self.on_block: Callable[[str], str] | None = None

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.CallBlock:
        """The block becomes a call of ``_mark`` with its rendered body."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        block = jinja2.nodes.CallBlock(self.call_method("_mark"), [], [], body)
        block.set_lineno(line)
        return block

    def _mark(self, caller: Callable[[], str]) -> str:
        text = caller()
        return text if self.on_block is None else self.on_block(text)


class Template:
    """One compiled chat template."""

    def __init__(self, source: str, marks: dict[str, str]) -> None:
        """Compile.

        Args:
            source: Jinja text.
            marks: named marks that the template may write, such as ``bos_token``.

        Raises:
            InvalidRequest: the template is not valid Jinja.
        """
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _now
        self._generation: _Generation = environment.extensions[f"{_Generation.__module__}.{_Generation.__qualname__}"]  # type: ignore[assignment]
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise InvalidRequest(f"The model's chat template is not valid: {error}") from error
        self._marks = marks
        self.has_generation_marks = "generation" in _tags(environment, source)

    def render(
        self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] = (), add_generation_prompt: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        """The text, and the character ranges of its ``{% generation %}`` blocks (end exclusive).

        Raises:
            InvalidRequest: the template refuses these messages.
        """
        blocks: list[str] = []
        try:
            open_mark, close_mark = _unused_marks(messages, tools)
        except RecursionError as error:  # a tool's schema, nested about a thousand deep
            raise InvalidRequest("The messages or tools are nested too deeply for a chat template.", param="messages") from error

        def wrap(text: str) -> str:
            blocks.append(text)
            return f"{open_mark}{text}{close_mark}"

        self._generation.on_block = wrap if self.has_generation_marks else None
        try:
            text = self._template.render(
                messages=list(messages),
                tools=list(tools) or None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._marks,
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise InvalidRequest(f"The model's chat template refuses these messages: {error}", param="messages") from error
        finally:
            self._generation.on_block = None
        return _take_marks_out(text, open_mark, close_mark) if blocks else (text, [])


def _tags(environment: jinja2.Environment, source: str) -> set[str]:
    tokens = list(environment.lex(source))
    names: set[str] = set()
    for i, (_, kind, _) in enumerate(tokens):
        if kind == "block_begin":
            names.update(value for _, kind_after, value in tokens[i + 1 : i + 3] if kind_after == "name")
    return names


def _unused_marks(messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]]) -> tuple[str, str]:
    """Two private-use texts that occur in no message: a caller's text can never pose as a block's border."""
    everything = json.dumps([list(messages), list(tools)], ensure_ascii=False)
    number = 0
    while f"\ue000{number}\ue001" in everything or f"\ue002{number}\ue001" in everything:
        number += 1
    return f"\ue000{number}\ue001", f"\ue002{number}\ue001"


def _take_marks_out(text: str, open_mark: str, close_mark: str) -> tuple[str, list[tuple[int, int]]]:
    parts = text.split(open_mark)
    clean = parts[0]
    ranges: list[tuple[int, int]] = []
    for part in parts[1:]:
        block, _, rest = part.partition(close_mark)
        ranges.append((len(clean), len(clean) + len(block)))
        clean += block + rest
    return clean, ranges


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> str:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
