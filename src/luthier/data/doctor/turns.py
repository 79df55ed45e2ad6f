"""Talks that are built unlike the others: the order of their roles, and system prompts that differ in a few rows.

What it does: judges each order of roles once, however many rows have it. What it does not: repeat the rules of
``luthier data check``; all of these rows train. Called by ``examine.py``.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from luthier.core.doctor_report import DoctorFinding, Weight
from luthier.core.examples import RowFormat
from luthier.data.doctor.draft import Draft, Rows, count_of, excerpt, first_lines, rows_of, share_of
from luthier.data.doctor.row_facts import RowFacts

_LEAST_ROWS = 20
_USUAL = 0.9
SYSTEM_CODE = "system_prompt_differs"


def _repeated(turns: Sequence[str]) -> bool:
    return any(one == other and one in ("user", "assistant") for one, other in pairwise(turns))


def _late_system(turns: Sequence[str]) -> bool:
    first = next((index for index, role in enumerate(turns) if role not in ("system", "developer")), len(turns))
    return any(role in ("system", "developer") for role in turns[first:])


def _unanswered(turns: Sequence[str]) -> bool:
    return bool(turns) and "assistant" in turns and turns[-1] != "assistant"


def _no_question(turns: Sequence[str]) -> bool:
    return "assistant" in turns and "user" not in turns[: turns.index("assistant")]


_ODD: dict[str, tuple[Callable[[Sequence[str]], bool], str, str, str]] = {
    "repeated_role": (
        _repeated,
        "two messages in a row by the user or by the assistant",
        "In a chat the two take turns; some templates refuse such a row, and the model meets no such talk when it is served.",
        "Join messages that belong together, or look for a message that was lost between them.",
    ),
    "late_system_message": (
        _late_system,
        "a system message after the talk has begun",
        "Most chat templates take a system message only at the beginning; others refuse the row or print it as something else.",
        "Put it first, or make it part of the user's message.",
    ),
    "trailing_messages": (
        _unanswered,
        "messages after the last answer",
        "Nothing is learned from what follows the last answer.",
        "Add the answer, or end the row with the last one.",
    ),
    "no_question": (
        _no_question,
        "an answer before any message of the user",
        "The model learns to speak without being asked, with nothing to go by.",
        "Add the message that is answered, or give the opening answer weight 0.",
    ),
}
CODES = tuple(_ODD)
_AT_THE_END = "trailing_messages"


def turns(facts: RowFacts, row_format: RowFormat) -> Iterator[Draft]:
    """Odd orders of roles, and odd system prompts."""
    if row_format is RowFormat.PROMPT_COMPLETION:
        return
    numbers = facts.sizes("turns")
    for code, (is_odd, words, why, cure) in _ODD.items():
        if code == _AT_THE_END and row_format is not RowFormat.CHAT:
            continue  # the answer stands elsewhere, or is still to come
        odd = [number for number, roles in enumerate(facts.turns) if is_odd(roles)]
        mask = np.isin(numbers, odd)
        count = int(mask.sum())
        if not count:
            continue
        finding = DoctorFinding(
            code=code,
            weight=Weight.WORTH_A_LOOK,
            count=count,
            lines=first_lines(facts.sizes("line")[mask]),
            finding=f"{rows_of(count, len(facts), 'has', 'have')} {words}.",
            why=why,
            cure=cure,
            examples=tuple(_roles(facts.turns[number]) for number in _frequent(numbers[mask])[:2]),
        )
        yield Draft(finding=finding)
    yield from _systems(facts)


def _systems(facts: RowFacts) -> Iterator[Draft]:
    """One system prompt for nearly all rows, and others, or none, in a few."""
    found, counts = np.unique(facts.keys("system"), return_counts=True)
    usual = int(np.argmax(counts))
    if len(facts) < _LEAST_ROWS or len(found) == 1 or counts[usual] < _USUAL * len(facts):
        return
    mask = facts.keys("system") != found[usual]
    count, without = int(mask.sum()), int((facts.keys("system")[mask] == 0).sum())
    lines = facts.sizes("line")
    first, other = int(lines[~mask][0]), int(lines[mask][0])
    usually = "no system prompt" if not found[usual] else "one and the same system prompt"
    finding = DoctorFinding(
        code=SYSTEM_CODE,
        weight=Weight.WORTH_A_LOOK,
        count=count,
        lines=first_lines(lines[mask]),
        finding=(
            f"{share_of(int(counts[usual]), len(facts))} of the rows have {usually}; {count_of(count, 'row')} "
            f"{'differs' if count == 1 else 'differ'}" + (f", {without:,} of them without any." if found[usual] else ".")
        ),
        why="A few rows with another system prompt are mostly slips, and the tuned model behaves by the one that it saw.",
        cure="Use one system prompt in all rows, and the same one when the model is called.",
    )
    yield Draft(finding=finding, needs=(first, other), show=lambda rows: _shown_systems(rows, first, other))


def _shown_systems(rows: Rows, usual: int, other: int) -> list[str]:
    def system(line: int) -> str:
        return excerpt("\n".join(text.text for text in rows[line].texts if text.role == "system"))

    return [f"usual (line {usual:,}): {system(usual)}", f"line {other:,}: {system(other)}"]


def _frequent(numbers: NDArray[np.uint32]) -> list[int]:
    found, counts = np.unique(numbers, return_counts=True)
    return found[np.argsort(-counts, kind="stable")].tolist()


def _roles(roles: Sequence[str]) -> str:
    return ", ".join(roles[:8]) + (f" and {len(roles) - 8:,} more" if len(roles) > 8 else "")
