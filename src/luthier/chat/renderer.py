"""Conversations to tokens: the one renderer for training, evaluation and serving.

What it does: ids, loss weights and spans of a supervised example or of a generation prompt, such that the prompt is a true
prefix of the example (``ranges.py`` for the text, ``cuts.py`` for the tokens). What it does not: truncate, pad, batch. No torch.
Called by ``preprocessing``, ``evaluation``, ``engine`` and ``deployment``.

A ``developer`` message is shown to templates as ``system``, a ``function`` message as ``tool``: open models know no other names
for them (``habits.py``). A special mark in a message's text stays text (``guard.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding

from luthier.chat.bulk import Bulk
from luthier.chat.cuts import Cutter
from luthier.chat.guard import Guard
from luthier.chat.habits import Habits
from luthier.chat.opaque import Looked
from luthier.chat.ranges import AnswerForm, Located, Locator
from luthier.chat.skeleton import Skeletons
from luthier.chat.template import PLAIN_TEMPLATE, Template
from luthier.chat.tokenizer import Tokenizer, read_json
from luthier.chat.word_memo import WordEncoding
from luthier.core.conversation import Conversation, Message, Role
from luthier.core.errors import InvalidRequest
from luthier.core.examples import RowFormat
from luthier.core.tokens import Rendered, RenderedRows, TokenKind, TokenSpan

# A segment of tokens: from, to, weight, message (-1 outside all), whether it is a message's own text.
_Segment = tuple[int, int, float, int, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """A rendered text, ready for its tokenizer."""

    messages: tuple[Message, ...]
    located: Located
    cutter: Cutter
    train: bool


class Renderer:
    """A model's tokenizer and chat template together."""

    def __init__(self, tokenizer: Tokenizer, template: str | None, *, eos_ids: Sequence[int] = ()) -> None:
        """Build from parts; ``load`` is the usual way.

        Args:
            tokenizer: the model's.
            template: Jinja text, or None for a base without one (then ``PLAIN_TEMPLATE`` serves chat rows).
            eos_ids: end tokens that the model's configs name.

        Raises:
            InvalidRequest: the template is not valid.
        """
        self.tokenizer = tokenizer
        self.has_template = template is not None
        self.template_source = template
        """Jinja text of the base's own template; None on a base without one."""
        self._template = Template(PLAIN_TEMPLATE if template is None else template, tokenizer.marks())
        self._habits = Habits(self._template)
        self._locator = Locator(self._template, tokenizer.added_texts())
        self._guard = Guard(tokenizer)
        self._cutter, self._guarded_cutter = Cutter(tokenizer), None
        eos = {i for i in (*eos_ids, tokenizer.eos_id) if i is not None}
        self.stop_ids: frozenset[int] = frozenset(eos | self._turn_end_ids())
        """Ids that end an answer: end tokens of the configs and of the tokenizer, and the one that ends an assistant turn."""

    @property
    def answer_form(self) -> AnswerForm | None:
        """What the template writes around an answer's content; None when it refuses the simplest talk."""
        return self._locator.form

    @classmethod
    def load(cls, folder: Path) -> "Renderer":
        """Read a model folder: tokenizer.json, tokenizer_config.json, chat_template.jinja, and the configs' end tokens.

        Raises:
            InvalidRequest: a file is missing or broken.
        """
        config = read_json(folder / "tokenizer_config.json")
        eos: list[int] = []
        for name in ("config.json", "generation_config.json"):
            value = read_json(folder / name).get("eos_token_id")
            eos.extend(value if isinstance(value, list) else [value] if isinstance(value, int) else [])
        return cls(Tokenizer.load(folder), _template_source(folder, config), eos_ids=eos)

    def example(self, conversation: Conversation, row_format: str = RowFormat.CHAT.value) -> Rendered:
        """A supervised example: every token, loss on assistant tokens and on the token that ends each assistant turn.

        A message's ``weight`` is the weight of its tokens (0: context only). Position 0 never has weight. A template that rewrites
        earlier turns gets the talk up to its last answer with weight, and only what the model would write so has weight:
        ``Rendered.rewritten`` names the other answers, ``split`` makes an example of each.

        Args:
            conversation: at least one message.
            row_format: matters only on a base without a template: ``prompt_completion`` is then the bare prompt, the bare
                completion and the end token; ``chat`` goes through the plain template.

        Raises:
            InvalidRequest: the template refuses the messages.
        """
        if not self.has_template and row_format == RowFormat.PROMPT_COMPLETION.value:
            return self._raw_example(conversation)
        return self._assemble(self._text(conversation, train=True))

    def examples(self, conversations: Sequence[Conversation], row_format: str = RowFormat.CHAT.value) -> list[Rendered | InvalidRequest]:
        """Many examples at once, each as ``example`` gives it: the tokenizer then works on several cores.

        A refusal stands in the place of its example, so that a caller can name every faulty row.
        """
        if not self.has_template and row_format == RowFormat.PROMPT_COMPLETION.value:
            return [self._raw_example(c) for c in conversations]
        texts: list[_Text | InvalidRequest] = []
        for conversation in conversations:
            try:
                texts.append(self._text(conversation, train=True))
            except InvalidRequest as refusal:
                texts.append(refusal)
        plain = [i for i, t in enumerate(texts) if isinstance(t, _Text) and t.cutter is self._cutter]
        encodings = dict(zip(plain, self.tokenizer.encodings([texts[i].located.text for i in plain]), strict=True))  # type: ignore[union-attr]
        return [self._assemble(t, encodings.get(i)) if isinstance(t, _Text) else t for i, t in enumerate(texts)]

    def in_bulk(self, conversations: Sequence[Conversation]) -> RenderedRows | None:
        """As ``examples``, but in columns, several times as fast, and only of those conversations for which that is certain to be the same,
        if there are any.

        Not for several threads at once.
        """
        return None if self._bulk is None else self._bulk.rows(conversations)

    def most_tokens(self, conversation: Conversation, row_format: str = RowFormat.CHAT.value) -> int:
        """A number that the tokens of the example do not exceed: the bytes of its text. Much quicker than tokenizing.

        A token stands for at least one byte; only a tokenizer that rewrites a text into a longer one could break the rule.

        Raises:
            InvalidRequest: the template refuses the messages.
        """
        if not self.has_template and row_format == RowFormat.PROMPT_COMPLETION.value:
            text = "".join(m.content for m in conversation.messages)
        else:
            text = self._template.render([self._habits.plain(m) for m in conversation.messages], tools=conversation.tools)
        return len(text.encode("utf-8", "surrogatepass")) + 2  # a mark that opens a bare text, and one that ends it

    def split(self, conversation: Conversation, row_format: str = RowFormat.CHAT.value) -> tuple[Conversation, ...]:
        """The conversations whose examples together train every answer that has weight, each once.

        One for most templates. Where a template rewrites earlier turns, the answers that it rewrites get conversations of their own
        that end with them.

        Raises:
            InvalidRequest: the template refuses the messages.
        """
        if not self.has_template and row_format == RowFormat.PROMPT_COMPLETION.value:
            return (conversation,)
        if len(_learned(conversation.messages)) < 2:
            return (conversation,)
        parts: list[Conversation] = []
        rest: Conversation | None = conversation
        while rest is not None:
            parts.append(rest)
            rewritten = self._text(rest, train=True).located.rewritten
            rest = _only(rest, rewritten) if rewritten else None
        done = [_learned(part.messages) for part in parts[1:]]
        # What a later part trains has no weight in an earlier one.
        return tuple(_without(part, later) for part, later in zip(parts, [*done, set()], strict=True))[::-1]

    def prompt(self, conversation: Conversation, row_format: str = RowFormat.CHAT.value) -> Rendered:
        """What the model reads before it answers: the conversation and the opening of an assistant turn; weights 0.

        Args and errors as in ``example``.
        """
        if not self.has_template and row_format == RowFormat.PROMPT_COMPLETION.value:
            return self.raw_prompt("".join(m.content for m in conversation.messages))
        return self._assemble(self._text(conversation, train=False))

    def raw_prompt(self, text: str) -> Rendered:
        """A bare text: no template; the tokenizer's own opening mark, if it has one. Never empty: then the BOS or EOS mark."""
        ids = [*self.tokenizer.opening_ids, *self.tokenizer.encode(text)]
        if not ids:
            start = self.tokenizer.bos_id if self.tokenizer.bos_id is not None else self.tokenizer.eos_id
            ids = [0 if start is None else start]
        return self._rendered(np.asarray(ids, dtype=np.int64), [(0, len(ids), 0.0, 0, True)], (Role.USER.value,))

    def completion_prompt(self, text: str, row_format: str) -> Rendered:
        """The prompt of ``/completions``.

        Args:
            text: the prompt as sent.
            row_format: of the model's training file. ``prompt_completion``: one user turn through the template (bare text on a
                base without one), as its rows were trained; ``chat``: bare text.
        """
        if row_format == RowFormat.PROMPT_COMPLETION.value:
            return self.prompt(Conversation(messages=(Message(role=Role.USER, content=text),)), row_format)
        return self.raw_prompt(text)

    def describe(self, rendered: Rendered) -> tuple[dict[str, Any], ...]:
        """One dict per token: ``id``, ``text``, ``bytes`` (list of ints), ``kind``, ``role``, ``message``."""
        tokens: list[dict[str, Any]] = []
        for span in rendered.spans:
            for token in rendered.ids_T[span.start : span.end].tolist():
                raw = self.tokenizer.token_bytes(token)
                text = raw.decode("utf-8", "replace")
                entry = {"id": token, "text": text, "bytes": list(raw), "kind": span.kind.value, "role": span.role, "message": span.message}
                tokens.append(entry)
        return tuple(tokens)

    @cached_property
    def _bulk(self) -> Bulk | None:
        words = self.tokenizer.word_ids()
        if words is None or self.template_source is None:
            return None
        try:
            skeletons = Skeletons(self.template_source, self.tokenizer.marks(), self._habits, self.tokenizer.all_marks())
        except Looked:  # this template cannot be watched
            return None
        return Bulk(skeletons, words, self.example)

    def _text(self, conversation: Conversation, *, train: bool) -> _Text:
        plain: list[dict[str, Any]] = [self._habits.plain(m) for m in conversation.messages]
        tools: Sequence[dict[str, Any]] = conversation.tools
        try:
            hostile = self._guard.finds([plain, tools])
        except RecursionError as error:  # a tool's schema, hundreds of levels deep
            raise InvalidRequest("The messages or tools are nested too deeply for a chat template.", param="messages") from error
        if hostile:
            plain, tools = self._guard.hide(plain), self._guard.hide(tools)
        located = self._locator.example(plain, tools, _learned(conversation.messages)) if train else self._locator.prompt(plain, tools)
        cutter = self._cutter
        if hostile:
            located, tokenizer = self._guard.reveal(located)
            if self._guarded_cutter is None:
                self._guarded_cutter = Cutter(tokenizer)
            cutter = self._guarded_cutter
        return _Text(messages=conversation.messages, located=located, cutter=cutter, train=train)

    def _assemble(self, text: _Text, encoding: Encoding | WordEncoding | None = None) -> Rendered:
        located, messages = text.located, text.messages
        borders = {border for r in located.answers for border in (r.start, r.end)}
        cut = text.cutter.cut(located.text, sorted({0, len(located.text), *borders}), encoding)
        opening = () if self.has_template else self.tokenizer.opening_ids
        segments: list[_Segment] = []
        answers = {r.message for r in located.answers}
        at = 0
        for r in located.ranges:
            if r.message in answers:
                start, end = cut.positions[r.start], cut.positions[r.end]
            else:
                start, end = max(at, cut.first_token(r.start)), cut.token_after(r.end)
            if end <= start:
                continue
            weight = messages[r.message].weight if text.train and r.message in answers else 0.0
            segments += [(at, start, 0.0, -1, False), (start, end, weight, r.message, True)]
            at = end
        segments.append((at, len(cut.ids_T), 0.0, -1, False))
        shift = len(opening)
        if shift:
            segments = [(0, shift, 0.0, -1, False), *((a + shift, b + shift, w, m, own) for a, b, w, m, own in segments)]
        ids_T = np.concatenate([np.asarray(opening, dtype=np.int64), cut.ids_T]) if shift else cut.ids_T
        roles = [m.role.value for m in messages]
        return self._rendered(
            ids_T, segments, roles, rewritten=located.rewritten if text.train else (), specials=None if shift else cut.specials
        )

    def _raw_example(self, conversation: Conversation) -> Rendered:
        answer = conversation.messages[-1]
        before = "".join(m.content for m in conversation.messages[:-1])
        text = before + answer.content
        cut = self._cutter.cut(text, sorted({0, len(before), len(text)}))
        border = cut.positions[len(before)]
        opening = list(self.tokenizer.opening_ids)
        if not opening and border == 0:
            opening = self.raw_prompt("").ids_T.tolist()
        ending = [] if self.tokenizer.eos_id is None else [self.tokenizer.eos_id]
        ids_T = np.concatenate([np.asarray(opening, dtype=np.int64), cut.ids_T, np.asarray(ending, dtype=np.int64)])
        border += len(opening)
        segments = [(0, border, 0.0, 0, True), (border, len(ids_T), answer.weight, len(conversation.messages) - 1, True)]
        roles = (Role.USER.value, *(m.role.value for m in conversation.messages[1:]))
        return self._rendered(ids_T, segments, roles)

    def _rendered(
        self,
        ids_T: np.ndarray,
        segments: Sequence[_Segment],
        roles: Sequence[str],
        *,
        rewritten: tuple[int, ...] = (),
        specials: list[int] | None = None,
    ) -> Rendered:
        """Weights and spans of segments that cover all tokens in order; ``specials`` are the positions of special marks, where known."""
        weights_T = np.zeros(len(ids_T), dtype=np.float32)
        specials = self.tokenizer.special_positions(ids_T) if specials is None else specials
        spans: list[TokenSpan] = []
        number = 0
        for start, end, weight, message, own in segments:
            role = roles[message] if message >= 0 else ""
            if weight > 0:
                if start == 0 and end > 0:  # Nothing stands before the first token: nothing predicts it.
                    _add_span(spans, 0, 1, TokenKind.SPECIAL if specials[:1] == [0] else TokenKind.CONTEXT, message, role)
                    start = 1
                weights_T[start:end] = weight
                _add_span(spans, start, end, TokenKind.TRAINED, message, role)
                continue
            while number < len(specials) and specials[number] < start:
                number += 1
            at = start
            while own and number < len(specials) and specials[number] < end:
                _add_span(spans, at, specials[number], TokenKind.CONTEXT, message, role)
                at = specials[number] + 1
                _add_span(spans, at - 1, at, TokenKind.SPECIAL, message, role)
                number += 1
            _add_span(spans, at, end, TokenKind.CONTEXT if own else TokenKind.SPECIAL, message, role)
        return Rendered(ids_T=ids_T, weights_T=weights_T, spans=tuple(spans), rewritten=rewritten)

    def _turn_end_ids(self) -> set[int]:
        form = self._locator.form
        ids = self.tokenizer.encode(form.end_mark) if form is not None else []
        return {i for i in ids[-1:] if i in self.tokenizer.special_ids}


def _add_span(spans: list[TokenSpan], start: int, end: int, kind: TokenKind, message: int, role: str) -> None:
    """Adds a run; one that goes on with the run before is joined to it."""
    if end <= start:
        return
    if spans and (spans[-1].kind, spans[-1].message, spans[-1].role) == (kind, message, role):
        spans[-1] = replace(spans[-1], end=end)
    else:
        spans.append(TokenSpan(start=start, end=end, kind=kind, message=message, role=role))


def _learned(messages: Sequence[Message]) -> set[int]:
    return {i for i, m in enumerate(messages) if m.role is Role.ASSISTANT and m.weight > 0}


def _only(conversation: Conversation, learned: Sequence[int]) -> Conversation:
    """The talk up to the last of these answers; all others are context."""
    messages = tuple(
        replace(m, weight=m.weight if i in learned else 0.0) if m.role is Role.ASSISTANT else m
        for i, m in enumerate(conversation.messages[: max(learned) + 1])
    )
    return replace(conversation, messages=messages)


def _without(conversation: Conversation, learned: set[int]) -> Conversation:
    if not learned:
        return conversation
    return replace(conversation, messages=tuple(replace(m, weight=0.0) if i in learned else m for i, m in enumerate(conversation.messages)))


def _template_source(folder: Path, config: dict[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    source = config.get("chat_template")
    if isinstance(source, list):
        named = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
        source = named.get("default")
    return source if isinstance(source, str) else None
