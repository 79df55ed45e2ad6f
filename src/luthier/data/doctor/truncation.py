"""Rows that are longer than a base model reads, and what is lost of them: counted in the model's own tokens.

What it does: leaves out the rows that are certainly short enough (a token is a byte at least), tokenises all others where these are
few, and a sample where they are many; also finds talks that the model's chat template refuses. What it does not: cut anything
(``preprocessing`` does, at the same length), or load weights. Called by ``examine.py``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from luthier.chat.renderer import Renderer
from luthier.core.conversation import Conversation, Message
from luthier.core.doctor_report import DoctorFinding, Weight
from luthier.core.errors import InvalidRequest
from luthier.core.examples import RowFormat, SourceLine
from luthier.core.tokens import Rendered
from luthier.data.doctor.draft import Draft, count_of, first_lines, share_of
from luthier.data.doctor.row_facts import RowFacts
from luthier.data.doctor.sound_rows import SoundRow
from luthier.data.messages import message_of
from luthier.data.validate import example_of

CODES = ("truncated", "template_refuses")
SAMPLE = 1000
SAMPLE_BYTES = 4_000_000
"""Rows, and bytes of rows, that are tokenised at most, for each model."""
_TEMPLATE_TOKENS = 256
"""More than chat templates add to a row of their own."""
_MAX_TURNS = 200
_MANY, _SOME = 0.1, 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A base model as far as lengths are concerned."""

    name: str
    renderer: Renderer
    max_length: int
    """Tokens after which a job cuts a row that says nothing of lengths itself."""


@dataclass(slots=True, kw_only=True)
class _Lengths:
    """What was found for one base."""

    base: Base
    chosen: set[int]
    """Lines that are tokenised to measure lengths."""
    probes: set[int]
    """Lines that are tokenised to see whether the template takes talks like theirs."""
    num_candidates: int
    over: dict[int, int] = field(default_factory=dict)
    """Line -> tokens, of rows that are too long."""
    num_tokenised: int = 0
    num_emptied: int = 0
    trained: int = 0
    """Trained tokens of the rows that are too long."""
    lost: int = 0
    refused: list[int] = field(default_factory=list)
    refusal: str = ""


class Truncation:
    """Chooses the rows to tokenise; is then given these; and tells what was found."""

    def __init__(self, facts: RowFacts, bases: tuple[Base, ...], row_format: RowFormat, *, seed: int, sample: int = SAMPLE) -> None:
        self._num_rows = len(facts)
        self._row_format = row_format
        self._lengths: list[_Lengths] = []
        lines, sizes = facts.sizes("line"), facts.sizes("size")
        _, first = np.unique(facts.sizes("turns"), return_index=True)
        probes = {int(lines[row]) for row in np.sort(first)[:_MAX_TURNS]}
        for base in bases:
            could = np.flatnonzero(sizes + np.uint32(_TEMPLATE_TOKENS) > base.max_length)
            rows = np.random.default_rng(seed).permutation(could)[:sample]
            rows = rows[: max(1, int(np.searchsorted(np.cumsum(sizes[rows], dtype=np.int64), SAMPLE_BYTES, side="right")))]
            self._lengths.append(_Lengths(base=base, chosen=set(lines[rows].tolist()), probes=probes, num_candidates=len(could)))

    def lines(self) -> set[int]:
        """Lines of the rows to tokenise."""
        return {line for found in self._lengths for lines in (found.chosen, found.probes) for line in lines}

    def see(self, row: SoundRow) -> None:
        """Tokenise one of these rows."""
        line = row.row.line
        for found in self._lengths:
            if line not in found.chosen and line not in found.probes:
                continue
            try:
                versions = [_weights(found.base.renderer, said, self._row_format) for said in _versions(row.raw, self._row_format)]
            except InvalidRequest as error:
                found.refused.append(line)
                found.refusal = found.refusal or error.message
                continue
            if line in found.chosen:
                _measure(found, line, versions)

    def statistics(self) -> dict[str, Any]:
        """Figures by the bases' names."""
        return {
            found.base.name: {
                "max_length": found.base.max_length,
                "rows_that_may_be_longer": found.num_candidates,
                "rows_tokenised": found.num_tokenised,
                "rows_longer": len(found.over),
                "rows_without_trained_token": found.num_emptied,
                "trained_tokens_of_longer_rows": found.trained,
                "trained_tokens_lost": found.lost,
            }
            for found in self._lengths
        }

    def drafts(self) -> Iterator[Draft]:
        """What was found, base by base."""
        for found in self._lengths:
            if found.over:
                yield Draft(finding=_truncated(found, self._num_rows, reinforcement=self._row_format is RowFormat.REINFORCEMENT))
            if found.refused:
                yield Draft(finding=_refused(found))


def _measure(found: _Lengths, line: int, versions: list[Rendered]) -> None:
    limit = found.base.max_length
    found.num_tokenised += 1
    longest = max(len(version.ids_T) for version in versions)
    if longest <= limit:
        return
    found.over[line] = longest
    trained = sum(int((version.weights_T > 0).sum()) for version in versions)
    lost = sum(int((version.weights_T[limit:] > 0).sum()) for version in versions)
    found.trained += trained
    found.lost += lost
    found.num_emptied += trained > 0 and lost == trained


def _versions(raw: Mapping[str, Any], row_format: RowFormat) -> list[Conversation]:
    """The talks that a job reads of a row: one, or one for each output of a preference."""
    source = SourceLine("", 0)
    if row_format is RowFormat.REINFORCEMENT:
        return [Conversation(messages=tuple(map(message_of, raw["messages"])), tools=tuple(raw.get("tools") or ()))]
    if row_format is not RowFormat.PREFERENCE:
        return [example_of(raw, row_format, source).conversation]
    asked = raw["input"]
    before: tuple[Message, ...] = tuple(map(message_of, asked["messages"]))
    tools = tuple(asked.get("tools") or ())
    outputs = (raw.get(name) or raw.get(name.replace("output", "completion")) for name in ("preferred_output", "non_preferred_output"))
    return [Conversation(messages=(*before, *map(message_of, output or ())), tools=tools) for output in outputs]


def _weights(renderer: Renderer, said: Conversation, row_format: RowFormat) -> Rendered:
    if row_format is RowFormat.REINFORCEMENT:
        return renderer.prompt(said)
    return renderer.example(said, row_format.value)


def _truncated(found: _Lengths, num_rows: int, *, reinforcement: bool) -> DoctorFinding:
    sampled = found.num_tokenised < found.num_candidates
    over, limit = len(found.over), found.base.max_length
    count = round(over / found.num_tokenised * found.num_candidates) if sampled else over
    emptied = round(found.num_emptied / found.num_tokenised * found.num_candidates) if sampled else found.num_emptied
    about = "about " if sampled else ""
    loss = f"they lose {share_of(found.lost, found.trained)} of their trained tokens"
    if emptied:
        loss += f", and {about}{count_of(emptied, 'row')} {'has' if emptied == 1 else 'have'} no trained token left"
    if reinforcement:
        loss = "their prompts leave no room for an answer"
    longest = sorted(found.over.items(), key=lambda entry: (-entry[1], entry[0]))[:3]
    return DoctorFinding(
        code=CODES[0],
        weight=Weight.SERIOUS if emptied >= max(1, _SOME * num_rows) or count >= _MANY * num_rows else Weight.WORTH_A_LOOK,
        count=count,
        lines=first_lines(np.array(list(found.over), dtype=np.uint32)),
        finding=(
            f"{about.capitalize()}{count_of(count, 'row')} of {num_rows:,} ({share_of(count, num_rows)}) {'is' if count == 1 else 'are'} "
            f"longer than the {limit:,} tokens that {found.base.name} trains on; {loss}."
        ),
        why="What lies behind the limit is cut off: the end of the answer is not learned, nor is the token that ends it.",
        cure="Shorten or split these rows, or take a base model that reads longer ones: luthier data doctor FILE --model NAME compares.",
        examples=tuple(f"line {line:,}: {count_of(tokens, 'token')}" for line, tokens in longest),
        measured_on=found.num_tokenised if sampled else None,
    )


def _refused(found: _Lengths) -> DoctorFinding:
    num = len(found.chosen | found.probes)
    return DoctorFinding(
        code=CODES[1],
        weight=Weight.SERIOUS,
        count=len(found.refused),
        lines=first_lines(np.array(found.refused, dtype=np.uint32)),
        finding=(
            f"The chat template of {found.base.name} refuses {count_of(len(found.refused), 'row')} of the {num:,} that were tried, "
            f"one of each order of roles among them: {found.refusal}"
        ),
        why="A job over such a row fails.",
        cure="Change the roles' order to one that the template takes, or choose another base model.",
        measured_on=num,
    )
