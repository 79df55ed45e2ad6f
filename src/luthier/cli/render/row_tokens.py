"""One row as its tokens, for people: who speaks, what is trained, what is only read, what is cut off.

Colour never stands alone: every run of tokens has its kind in words beside it. Borders of tokens, spaces and new lines are
visible; what a terminal would obey or hide is shown as an escape. What it does not: print, or know how tokens came about.
Called by ``cli/data_show.py``.
"""

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from luthier.cli.render.text import literal, plain
from luthier.cli.render.tokens import STYLES

Token = Mapping[str, Any]
_STYLES = STYLES | {"truncated": "dim strike"}
_BORDER = "│"
# A row of ten thousand tokens would flood the terminal: of a long run its two ends are shown.
_MAX_RUN, _HEAD, _TAIL = 160, 100, 40
_MAX_LISTED, _HEAD_LISTED, _TAIL_LISTED = 400, 250, 100
_MAX_REFERENCE_LINES = 40
# A character has at most four bytes.
_MAX_PARTS = 4
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_VISIBLE = {" ": "·", "\n": "⏎", "\r": "␍", "\t": "⇥"}
_ESCAPED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_FORMATS = {"prompt_completion": "prompt/completion"}
_HEADINGS = {
    "preferred": "preferred answer: what counts here becomes likelier",
    "non_preferred": "non-preferred answer: what counts here becomes less likely",
    "prompt": "prompt: the model's own answer follows it, is graded, and is what is learned from",
}


def visible(token: Token) -> str:
    """A token so that every character of it can be seen; parts of a character as their bytes."""
    text = _decoded([token])
    if text is None:
        return "".join(f"\\x{byte:02x}" for byte in token["bytes"])
    return "".join(map(_visible, text)) or "∅"


def _decoded(tokens: Sequence[Token]) -> str | None:
    """The text of tokens, or None where it begins or ends inside a character."""
    try:
        return b"".join(bytes(token["bytes"]) for token in tokens).decode()
    except UnicodeDecodeError:
        return None


def _pieces(tokens: Sequence[Token]) -> Iterator[str]:
    """Tokens as they are shown in a row: one by one, but those that only together are characters as one, with their number."""
    at = 0
    while at < len(tokens):
        size = next((n for n in range(1, _MAX_PARTS + 1) if _decoded(tokens[at : at + n]) is not None), 1)
        if size == 1:
            yield visible(tokens[at])
        else:
            text = "".join(map(_visible, _decoded(tokens[at : at + size]) or ""))
            yield f"{text}{str(size).translate(_RAISED)}"
        at += size


def _visible(mark: str) -> str:
    if mark in _VISIBLE:
        return _VISIBLE[mark]
    category = unicodedata.category(mark)
    if category in _ESCAPED or (category == "Zs" and mark != " "):
        code = ord(mark)
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return mark


def page(row: Mapping[str, Any], model: Mapping[str, Any], *, every: bool = False, ids: bool = False) -> Iterator[RenderableType]:
    """The parts of the page of one row, from top to bottom.

    Args:
        row: as ``worker/show_row.py`` tells it.
        model: likewise.
        every: show all tokens of long runs.
        ids: one line for each token, with its id and weight.
    """
    kind = "" if row["format"] is None else f"{_FORMATS.get(row['format'], row['format'])} row, "
    head = literal(f"{row['file']}, line {row['line']:,}", style="bold")
    yield head.append(f"  {kind}read by {plain(model['name'])}, at most {row['max_length']:,} tokens", style="dim")
    for finding in row["findings"]:
        yield _finding(finding)
    for problem in row["problems"]:
        yield literal(f"{problem['severity']}: {problem['message']}", style=_of_severity(problem["severity"]), max_length=1000)
    show = _listed if ids else _runs
    sequences = row["sequences"]
    shared = sequences[0]["num_shared"] if len(sequences) == 2 else 0
    if shared:
        yield Text("\nprompt, the same before both answers: read, not learned", style="bold")
        yield show(sequences[0]["tokens"][:shared], 0, every=every)
    for number, sequence in enumerate(sequences):
        heading = _HEADINGS.get(sequence["name"])
        if heading is None and len(sequences) > 1:
            heading = f"part {number + 1} of {len(sequences)}: the chat template rewrites earlier turns, so answers are learned one by one"
        if heading is not None:
            yield Text(f"\n{heading}", style="bold")
        yield show(sequence["tokens"][shared:], shared, every=every)
        yield _totals(sequence)
    if row["reference"] is not None:
        yield from _reference(row["reference"])
    # A server of an earlier version says nothing of packing.
    if row.get("packing") is not None:
        yield _packing(row["packing"])


def legend() -> Text:
    """What words and signs mean."""
    text = Text()
    for kind, meaning in (
        ("trained", "counts in the loss"),
        ("context", "only read"),
        ("special", "of the template, only read"),
        ("truncated", "past the limit, unseen"),
    ):
        text.append(kind, style=_STYLES[kind]).append(f" {meaning}   ", style="dim")
    text.right_crop(3)
    return text.append(
        f"\n{_BORDER} border of two tokens   · space   ⏎ new line   ⇥ tab   \\x.. \\u.... others   ² one character in 2 tokens", style="dim"
    )


def _of_severity(severity: str) -> str:
    return "red" if severity == "error" else "yellow"


def _finding(finding: Mapping[str, Any]) -> Text:
    place = ", ".join(p for p in (f"byte {finding['column']}" if finding["column"] else "", plain(finding["path"], max_length=80)) if p)
    text = literal(f"{finding['severity']}: {finding['message']}", style=_of_severity(finding["severity"]), max_length=400)
    return text.append(f"\n  {place}{': ' if place else ''}{plain(finding['cure'])}", style="dim")


def _runs(tokens: Sequence[Token], start: int, *, every: bool) -> Table:
    """One line for each run of tokens of one kind in one message."""
    table = Table(
        Column("from", justify="right", no_wrap=True),
        Column("role", no_wrap=True),
        Column("kind", no_wrap=True),
        Column("tokens", overflow="fold"),
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    at = start
    for (_message, role, kind), run in groupby(tokens, key=lambda token: (token["message"], token["role"], token["kind"])):
        members = list(run)
        style = _STYLES[kind]
        table.add_row(f"{at:,}", literal(role), Text(kind, style=style), _run(members, style, every=every))
        at += len(members)
    return table


def _run(tokens: Sequence[Token], style: str, *, every: bool) -> Text:
    left_out = 0 if every or len(tokens) <= _MAX_RUN else len(tokens) - _HEAD - _TAIL
    parts = [tokens] if not left_out else [tokens[:_HEAD], tokens[-_TAIL:]]
    text = Text()
    for number, part in enumerate(parts):
        if number:
            text.append(f" … {left_out:,} more … ", style="dim")
        for at, piece in enumerate(_pieces(part)):
            text.append(_BORDER if at else "", style="dim").append(piece, style=style)
    return text


def _listed(tokens: Sequence[Token], start: int, *, every: bool) -> Table:
    """One line for each token."""
    right = {"justify": "right", "no_wrap": True}
    table = Table(
        Column("at", **right),
        Column("id", **right),
        Column("token", overflow="fold"),
        Column("kind", no_wrap=True),
        Column("weight", **right),
        Column("role", no_wrap=True),
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    left_out = 0 if every or len(tokens) <= _MAX_LISTED else len(tokens) - _HEAD_LISTED - _TAIL_LISTED
    for at, token in enumerate(tokens):
        if left_out and at == _HEAD_LISTED:
            table.add_row("…", "", Text(f"{left_out:,} more", style="dim"))
        if left_out and _HEAD_LISTED <= at < len(tokens) - _TAIL_LISTED:
            continue
        style = _STYLES[token["kind"]]
        cells = (Text(visible(token), style=style), Text(token["kind"], style=style), f"{token['weight']:g}", literal(token["role"]))
        table.add_row(f"{start + at:,}", str(token["id"]), *cells)
    return table


def _totals(sequence: Mapping[str, Any]) -> Text:
    counts = (
        f"{sequence['num_tokens']:,} tokens: {sequence['num_trained']:,} trained ({sequence['trained_share']:.1%}), "
        f"{sequence['num_context']:,} context, {sequence['num_special']:,} special; {sequence['num_truncated']:,} truncated"
    )
    if sequence["num_trained_lost"]:
        counts += f", of them {sequence['num_trained_lost']:,} of an answer"
    text = Text(counts)
    for name, words in (("first_trained", "first trained"), ("last_trained", "last trained")):
        at = sequence[name]
        if at is not None:
            text.append("\n" if name == "first_trained" else "  ")
            text.append(f"{words}: {at:,} ").append(visible(sequence["tokens"][at]), style=_STYLES["trained"])
    placement = sequence["placement"]
    if placement is not None:
        text.append(f"\n{_place(placement)}")
    return text


def _place(placement: Mapping[str, Any]) -> str:
    """People count sequences from 1; tokens count from 0, as in the column beside them, and the last one is named."""
    where = (
        f"packed: sequence {placement['sequence'] + 1:,} of {placement['num_sequences']:,}, "
        f"tokens {placement['start']:,} to {placement['end'] - 1:,}"
    )
    others, shown = placement["num_shared_with"], placement["shared_with"]
    if not others:
        return f"{where}, alone"
    more = f" and {others - len(shown):,} more" if others > len(shown) else ""
    return f"{where}, with line{'s'[: others > 1]} {', '.join(f'{line:,}' for line in shown)}{more}"


def _packing(packing: Mapping[str, Any]) -> Text:
    """The whole file's packing on one line."""
    left_out = f"; {packing['num_left_out']:,} lines left out" if packing["num_left_out"] else ""
    return Text(
        f"\nthe file packed best-fit: {packing['num_examples']:,} examples, {packing['num_tokens']:,} tokens in "
        f"{packing['num_sequences']:,} sequences of {packing['capacity']:,}, {packing['efficiency']:.1%} full{left_out}"
    )


def _reference(reference: Mapping[str, Any]) -> Iterator[Text]:
    if not reference:
        yield Text("\nreference data: none; a grader sees the answer alone", style="bold")
        return
    yield Text("\nreference data, which a grader reads as item (the model does not see it)", style="bold")
    lines = json.dumps(reference, indent=2, ensure_ascii=False).split("\n")
    for line in lines[:_MAX_REFERENCE_LINES]:
        yield literal(line, max_length=200)
    if len(lines) > _MAX_REFERENCE_LINES:
        yield Text(f"… {len(lines) - _MAX_REFERENCE_LINES:,} more lines", style="dim")
