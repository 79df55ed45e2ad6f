"""Conversations to tokens: the one renderer for training, evaluation and serving.

What it does: ids, loss weights and spans of a supervised example or of a generation prompt, such that the prompt is a true
prefix of the example (``tokens_between_cuts`` says how). What it does not: truncate, pad, batch. No torch.
Called by ``preprocessing``, ``evaluation``, ``engine`` and ``deployment``.

A ``developer`` message is shown to templates as ``system``, a ``function`` message as ``tool``: open models know no other names
for them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from luthier.chat.ranges import MessageRange, locate_messages
from luthier.chat.template import PLAIN_TEMPLATE, Template
from luthier.chat.tokenizer import Tokenizer, read_json
from luthier.core.conversation import Conversation, Message, Role, message_to_dict
from luthier.core.errors import InvalidRequest
from luthier.core.examples import RowFormat
from luthier.core.tokens import Rendered, TokenKind, TokenSpan


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
        self._special_texts = tokenizer.added_texts()
        eos = {i for i in (*eos_ids, tokenizer.eos_id) if i is not None}
        self.stop_ids: frozenset[int] = frozenset(eos | self._turn_end_ids())
        """Ids that end an answer: end tokens of the configs and of the tokenizer, and the one that ends an assistant turn."""

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

        A message's ``weight`` is the weight of its tokens (0: context only). Position 0 never has weight.

        Args:
            conversation: at least one message.
            row_format: matters only on a base without a template: ``prompt_completion`` is then the bare prompt, the bare
                completion and the end token; ``chat`` goes through the plain template.

        Raises:
            InvalidRequest: the template refuses the messages.
        """
        if not self.has_template and row_format == RowFormat.PROMPT_COMPLETION.value:
            return self._raw_example(conversation)
        text, ranges = self._locate(conversation, add_generation_prompt=False)
        return self._assemble(text, conversation.messages, ranges, train=True)

    def examples(self, conversations: Sequence[Conversation], row_format: str = RowFormat.CHAT.value) -> list[Rendered | InvalidRequest]:
        """Many examples, each as ``example`` gives it.

        A refusal stands in the place of its example, so that a caller can name every faulty row.
        """
        return [self._example_or_refusal(conversation, row_format) for conversation in conversations]

    def _example_or_refusal(self, conversation: Conversation, row_format: str) -> Rendered | InvalidRequest:
        try:
            return self.example(conversation, row_format)
        except InvalidRequest as refusal:
            return refusal

    def prompt(self, conversation: Conversation, row_format: str = RowFormat.CHAT.value) -> Rendered:
        """What the model reads before it answers: the conversation and the opening of an assistant turn; weights 0.

        Args and errors as in ``example``.
        """
        if not self.has_template and row_format == RowFormat.PROMPT_COMPLETION.value:
            return self.raw_prompt("".join(m.content for m in conversation.messages))
        text, ranges = self._locate(conversation, add_generation_prompt=True)
        return self._assemble(text, conversation.messages, ranges, train=False)

    def raw_prompt(self, text: str) -> Rendered:
        """A bare text: no template; the tokenizer's own opening mark, if it has one. Never empty: then the BOS or EOS mark."""
        ids = [*self.tokenizer.opening_ids, *self.tokenizer.encode(text)]
        if not ids:
            start = self.tokenizer.bos_id if self.tokenizer.bos_id is not None else self.tokenizer.eos_id
            ids = [0 if start is None else start]
        kinds = [TokenKind.SPECIAL if i in self.tokenizer.special_ids else TokenKind.CONTEXT for i in ids]
        return _rendered(ids, [0.0] * len(ids), kinds, [0] * len(ids), [Role.USER.value] * len(ids))

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

    def _locate(self, conversation: Conversation, *, add_generation_prompt: bool) -> tuple[str, list[MessageRange]]:
        plain = [_for_template(m) for m in conversation.messages]
        return locate_messages(
            self._template, plain, tools=conversation.tools, add_generation_prompt=add_generation_prompt, end_marks=self._special_texts
        )

    def _assemble(self, text: str, messages: Sequence[Message], ranges: list[MessageRange], *, train: bool) -> Rendered:
        answers = [r for r in ranges if messages[r.message].role is Role.ASSISTANT]
        cuts = sorted({0, len(text), *(r.start for r in answers), *(r.end for r in answers)})
        ids, offsets, position = tokens_between_cuts(self.tokenizer, text, cuts)
        opening = [] if self.has_template else list(self.tokenizer.opening_ids)
        owner = _owner_of_tokens(offsets, ranges)
        for r in answers:
            owner[position[r.start] : position[r.end]] = [ranges.index(r)] * (position[r.end] - position[r.start])
        weights = [0.0] * len(ids)
        for r in answers if train else ():
            for t in range(position[r.start], position[r.end]):
                weights[t] = messages[r.message].weight
        if weights and not opening:
            weights[0] = 0.0
        kinds, numbers, roles = [TokenKind.SPECIAL] * len(opening), [-1] * len(opening), [""] * len(opening)
        for token, weight, index in zip(ids, weights, owner, strict=True):
            found = ranges[index] if index >= 0 else None
            inside = found is not None and (weight > 0 or token not in self.tokenizer.special_ids)
            kinds.append(TokenKind.TRAINED if weight > 0 else TokenKind.CONTEXT if inside else TokenKind.SPECIAL)
            numbers.append(found.message if found is not None else -1)
            roles.append(messages[found.message].role.value if found is not None else "")
        return _rendered([*opening, *ids], [0.0] * len(opening) + weights, kinds, numbers, roles)

    def _raw_example(self, conversation: Conversation) -> Rendered:
        answer = conversation.messages[-1]
        before = "".join(m.content for m in conversation.messages[:-1])
        ids, _, position = tokens_between_cuts(self.tokenizer, before + answer.content, [0, len(before), len(before) + len(answer.content)])
        opening = list(self.tokenizer.opening_ids)
        if not opening and position[len(before)] == 0:
            opening = self.raw_prompt("").ids_T.tolist()
        ending = [] if self.tokenizer.eos_id is None else [self.tokenizer.eos_id]
        num_before = len(opening) + position[len(before)]
        num_after = len(ids) - position[len(before)] + len(ending)
        weight = answer.weight
        learned = TokenKind.TRAINED if weight > 0 else TokenKind.CONTEXT
        return _rendered(
            [*opening, *ids, *ending],
            [0.0] * num_before + [weight] * num_after,
            [TokenKind.CONTEXT] * num_before + [learned] * num_after,
            [0] * num_before + [len(conversation.messages) - 1] * num_after,
            [Role.USER.value] * num_before + [answer.role.value] * num_after,
        )

    def _turn_end_ids(self) -> set[int]:
        probe = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        try:
            text, ranges = locate_messages(self._template, probe, end_marks=self._special_texts)
        except InvalidRequest:
            return set()
        answer = next((r for r in ranges if r.message == 1), None)
        last = self.tokenizer.encode(text[answer.start : answer.end])[-1:] if answer is not None else []
        return {i for i in last if i in self.tokenizer.special_ids}


def tokens_between_cuts(tokenizer: Tokenizer, text: str, cuts: Sequence[int]) -> tuple[list[int], list[tuple[int, int]], dict[int, int]]:
    """Encode a text so that a token border falls on every cut.

    The whole text is encoded as one wherever that already has borders at the cuts; where a token would straddle one, the text
    is encoded apart from there. The tokens before a cut depend only on the text before it and on earlier cuts: therefore a
    generation prompt (which ends at a cut of its example) gives exactly the example's first tokens.

    Args:
        tokenizer: of the model.
        text: the rendered text.
        cuts: ascending character positions; the first is 0, the last ``len(text)``.

    Returns:
        ids, character ranges of each, and the token position of each cut.
    """
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    position = {cuts[0]: 0}
    anchor, anchor_position, previous = cuts[0], 0, cuts[0]
    for cut in cuts[1:]:
        new, ranges = tokenizer.encode_with_offsets(text[anchor:cut])
        if new[: len(ids) - anchor_position] != ids[anchor_position:]:
            anchor, anchor_position = previous, len(ids)
            new, ranges = tokenizer.encode_with_offsets(text[anchor:cut])
        known = len(ids) - anchor_position
        ids += new[known:]
        offsets += [(s + anchor, e + anchor) for s, e in ranges[known:]]
        position[cut] = len(ids)
        previous = cut
    return ids, offsets, position


def _owner_of_tokens(offsets: Sequence[tuple[int, int]], ranges: Sequence[MessageRange]) -> list[int]:
    """Index into ``ranges`` for each token that shares a character with it, -1 outside all."""
    owners: list[int] = []
    index = 0
    for start, end in offsets:
        while index < len(ranges) and start >= ranges[index].end:
            index += 1
        owners.append(index if index < len(ranges) and max(end, start + 1) > ranges[index].start else -1)
    return owners


_KNOWN_AS = {Role.DEVELOPER: Role.SYSTEM, Role.FUNCTION: Role.TOOL}


def _for_template(message: Message) -> dict[str, Any]:
    return {**message_to_dict(message), "role": _KNOWN_AS.get(message.role, message.role).value}


def _template_source(folder: Path, config: dict[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    source = config.get("chat_template")
    if isinstance(source, list):
        named = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
        source = named.get("default")
    return source if isinstance(source, str) else None


def _rendered(ids: list[int], weights: list[float], kinds: list[TokenKind], numbers: list[int], roles: list[str]) -> Rendered:
    spans: list[TokenSpan] = []
    start = 0
    for t in range(1, len(ids) + 1):
        if t == len(ids) or (kinds[t], numbers[t], roles[t]) != (kinds[start], numbers[start], roles[start]):
            spans.append(TokenSpan(start=start, end=t, kind=kinds[start], message=numbers[start], role=roles[start]))
            start = t
    return Rendered(ids_T=np.asarray(ids, dtype=np.int64), weights_T=np.asarray(weights, dtype=np.float32), spans=tuple(spans))
