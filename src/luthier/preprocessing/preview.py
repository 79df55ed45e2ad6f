"""What will be learned from one row, token by token: role, message, and whether a token is trained, only read, or cut off.

What it does: the token sequences of a row of any method, exactly as training reads them, and after them the tokens that
the length limit cuts off; totals, and what is wrong with the row. What it does not: read files or judge rows
(``data``), load a model, or pack: the caller says where a row lies (``places.py``). Called by ``worker/row_preview.py``. No torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import takewhile
from typing import Any, Protocol

from luthier.core.examples import Example, RlExample, RowFormat, SourceLine
from luthier.core.tokens import Rendered, TokenKind
from luthier.preprocessing.places import Place
from luthier.preprocessing.sequences import RowRenderer, sequences_of


class PreviewRenderer(RowRenderer, Protocol):
    """What a preview needs of ``chat.renderer.Renderer``."""

    stop_ids: frozenset[int]

    def describe(self, rendered: Rendered, /) -> tuple[dict[str, Any], ...]:
        """One dict per token: ``id``, ``text``, ``bytes``, ``kind``, ``role``, ``message``."""
        ...


class ShownKind(StrEnum):
    """What becomes of a token."""

    TRAINED = "trained"
    CONTEXT = "context"
    SPECIAL = "special"
    TRUNCATED = "truncated"
    """Past the length limit: the model never sees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewToken:
    """One token of a sequence."""

    id: int
    text: str
    """Special marks by their name; U+FFFD where the bytes are a part of a character."""
    bytes: bytes
    kind: ShownKind
    lost: TokenKind | None
    """What a truncated token would have been; None for tokens that are kept."""
    role: str
    """Empty for marks outside of messages."""
    message: int
    """Index of the message in its sequence, -1 for marks outside of messages."""
    weight: float
    """In the loss; 0 for a truncated token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewSequence:
    """The tokens that one forward pass reads, and behind them what was cut off."""

    name: str
    """``example``, ``preferred``, ``non_preferred`` or ``prompt``."""
    tokens: tuple[PreviewToken, ...]
    num_shared: int = 0
    """Leading tokens that a preference row's two sequences share: the prompt."""
    placement: Place | None = None
    """Where it lies after packing; None when that was not asked for, or when it is left out of training."""

    @property
    def num_tokens(self) -> int:
        """Tokens that are kept."""
        return len(self.tokens) - self.num_truncated

    @property
    def num_truncated(self) -> int:
        """Tokens that are cut off at the end."""
        return self._count(ShownKind.TRUNCATED)

    @property
    def num_trained(self) -> int:
        """Tokens that count in the loss."""
        return self._count(ShownKind.TRAINED)

    @property
    def num_trained_lost(self) -> int:
        """Tokens that would count in the loss, had they not been cut off."""
        return sum(token.lost is TokenKind.TRAINED for token in self.tokens)

    def trained_positions(self) -> list[int]:
        """Positions of the tokens that count, ascending."""
        return [at for at, token in enumerate(self.tokens) if token.kind is ShownKind.TRAINED]

    def _count(self, kind: ShownKind) -> int:
        return sum(token.kind is kind for token in self.tokens)

    def to_dict(self) -> dict[str, Any]:
        """As JSON, with totals."""
        trained = self.trained_positions()
        return {
            "name": self.name,
            "num_tokens": self.num_tokens,
            "num_trained": len(trained),
            "num_context": self._count(ShownKind.CONTEXT),
            "num_special": self._count(ShownKind.SPECIAL),
            "num_truncated": self.num_truncated,
            "num_trained_lost": self.num_trained_lost,
            "trained_share": len(trained) / self.num_tokens if self.num_tokens else 0.0,
            "first_trained": trained[0] if trained else None,
            "last_trained": trained[-1] if trained else None,
            "num_shared": self.num_shared,
            "placement": None if self.placement is None else self.placement.to_dict(),
            "tokens": [_token_to_dict(token) for token in self.tokens],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewProblem:
    """What keeps a row from teaching what it says."""

    code: str
    """``nothing_trained``, ``no_room_for_answer``, ``same_tokens``, ``answer_cut`` or ``no_end``."""
    is_error: bool
    """True: nothing can be learned from the row. False: something is missing in what is learned."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """One row as training will read it."""

    source: SourceLine
    row_format: RowFormat
    max_length: int
    sequences: tuple[PreviewSequence, ...]
    """One, or several where the chat template rewrites earlier turns; for preferences two, the preferred answer first."""
    reference: Mapping[str, Any] | None
    """Of a row for reinforcement: what its graders read as ``item``."""
    problems: tuple[PreviewProblem, ...]

    @property
    def ok(self) -> bool:
        """Whether something can be learned from the row."""
        return not any(problem.is_error for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "object": "luthier.row_preview",
            "line": self.source.line,
            "format": self.row_format.value,
            "ok": self.ok,
            "max_length": self.max_length,
            "sequences": [sequence.to_dict() for sequence in self.sequences],
            "reference": None if self.reference is None else dict(self.reference),
            "problems": [{"code": p.code, "severity": "error" if p.is_error else "warning", "message": p.message} for p in self.problems],
        }


def preview(
    example: Example,
    renderer: PreviewRenderer,
    *,
    row_format: RowFormat,
    max_length: int,
    places: Sequence[Place] = (),
) -> Preview:
    """Show one row.

    Args:
        example: a sound row.
        renderer: of the base model.
        row_format: of the row's file.
        max_length: tokens at which training cuts.
        places: where the file is packed, those of the row's sequences that have a trained token, in their order.

    Raises:
        InvalidRequest: the base's chat template refuses the messages.
    """
    whole = sequences_of(example, renderer, row_format)
    lists = [_tokens(one.rendered, renderer, max_length) for one in whole]
    is_pair = whole[0].name == "preferred"
    shared = _num_shared(lists) if is_pair else 0
    sequences = tuple(PreviewSequence(name=one.name, tokens=tokens, num_shared=shared) for one, tokens in zip(whole, lists, strict=True))
    if places:
        sequences = tuple(_placed(sequences, places))
    line = example.source.line
    if isinstance(example, RlExample):
        problems = _problems_of_prompt(sequences[0], line, max_length)
    else:
        problems = _problems_of_answers(sequences, line, max_length, renderer.stop_ids)
        if is_pair and _same_after_cut(*sequences):
            message = f"Example {line} has two answers that are the same tokens within {max_length:,}; there is no preference to learn."
            problems.append(PreviewProblem(code="same_tokens", is_error=True, message=message))
    return Preview(
        source=example.source,
        row_format=row_format,
        max_length=max_length,
        sequences=sequences,
        reference=example.reference if isinstance(example, RlExample) else None,
        problems=tuple(problems),
    )


def _tokens(rendered: Rendered, renderer: PreviewRenderer, max_length: int) -> tuple[PreviewToken, ...]:
    tokens: list[PreviewToken] = []
    for at, (told, weight) in enumerate(zip(renderer.describe(rendered), rendered.weights_T.tolist(), strict=True)):
        kind, kept = TokenKind(told["kind"]), at < max_length
        tokens.append(
            PreviewToken(
                id=told["id"],
                text=told["text"],
                bytes=bytes(told["bytes"]),
                kind=ShownKind(kind.value) if kept else ShownKind.TRUNCATED,
                lost=None if kept else kind,
                role=told["role"],
                message=told["message"],
                weight=weight if kept else 0.0,
            )
        )
    return tuple(tokens)


def _placed(sequences: Sequence[PreviewSequence], places: Sequence[Place]) -> Iterator[PreviewSequence]:
    """Training leaves out a part none of whose tokens is trained; the others lie in their order."""
    waiting = iter(places)
    for sequence in sequences:
        yield replace(sequence, placement=next(waiting)) if sequence.num_trained else sequence


def _num_shared(lists: Sequence[tuple[PreviewToken, ...]]) -> int:
    """Tokens before the first answer's first token that both sequences begin with."""

    def is_prompt(pair: tuple[PreviewToken, PreviewToken]) -> bool:
        a, b = pair
        return a.id == b.id and TokenKind.TRAINED not in (a.kind.value, b.kind.value, a.lost, b.lost)

    return sum(1 for _ in takewhile(is_prompt, zip(*lists, strict=False)))


def _same_after_cut(a: PreviewSequence, b: PreviewSequence) -> bool:
    return [t.id for t in a.tokens[: a.num_tokens]] == [t.id for t in b.tokens[: b.num_tokens]]


_LEADS = {"example": "", "preferred": " (preferred answer)", "non_preferred": " (non-preferred answer)"}


def _problems_of_answers(
    sequences: Sequence[PreviewSequence], line: int, max_length: int, stop_ids: frozenset[int]
) -> list[PreviewProblem]:
    """What is wrong with each sequence. A row in several parts is lost only where all of them are."""
    found = [_problem(sequence, line, max_length, stop_ids) for sequence in sequences]
    problems = [problem for problem in found if problem is not None]
    if sequences[0].name == "example" and any(sequence.num_trained for sequence in sequences):
        problems = [replace(problem, is_error=False) for problem in problems]
    return list(dict.fromkeys(problems))


def _problem(sequence: PreviewSequence, line: int, max_length: int, stop_ids: frozenset[int]) -> PreviewProblem | None:
    lead, lost, trained = f"Example {line}{_LEADS[sequence.name]}", sequence.num_trained_lost, sequence.trained_positions()
    if not trained:
        why = f"every answer lies past the length limit of {max_length:,} tokens" if lost else "no message of it is learned"
        return PreviewProblem(code="nothing_trained", is_error=True, message=f"{lead} has no token to train on: {why}.")
    if lost:
        message = f"{lead} loses {lost:,} of {lost + len(trained):,} trained tokens past the length limit of {max_length:,}."
        return PreviewProblem(code="answer_cut", is_error=False, message=message)
    if stop_ids and sequence.tokens[trained[-1]].id not in stop_ids:
        message = f"{lead} does not train the mark that ends an answer; a model tuned on such rows may not stop."
        return PreviewProblem(code="no_end", is_error=False, message=message)
    return None


def _problems_of_prompt(sequence: PreviewSequence, line: int, max_length: int) -> list[PreviewProblem]:
    length = len(sequence.tokens)
    if length < max_length:
        return []
    message = f"Example {line} has a prompt of {length:,} tokens, which leaves no room for an answer within {max_length:,}."
    return [PreviewProblem(code="no_room_for_answer", is_error=True, message=message)]


def _token_to_dict(token: PreviewToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "text": token.text,
        "bytes": list(token.bytes),
        "kind": token.kind.value,
        "lost": None if token.lost is None else token.lost.value,
        "role": token.role,
        "message": token.message,
        "weight": token.weight,
    }
