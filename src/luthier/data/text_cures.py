"""Cures of a line that is nearly JSON: commas too many, and typographic quotes where JSON has its own.

What it does: changes what stands outside of strings, and the quotes around them; what is inside of a string stays as it is.
What it does not: decide whether the result is JSON (the caller parses it). Called by ``repair.py``.
"""

import re

_OPENING = "\u201c\u201e\u201d\u201f"
_CLOSING = "\u201d\u201c\u201f"
_SINGLE_OPENING = "\u2018\u2019\u201a\u201b"
_SINGLE_CLOSING = "\u2019\u2018\u201b"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_COMMA_BEFORE_END = re.compile(r",(\s*)(?=[}\]])")
_COMMA_AT_END = re.compile(r"(?:\s*,)+\s*\Z")
# A key with its value, inside of what was taken for one string: its end was missed.
_PAIR_INSIDE = re.compile('[\u201c\u201d\u201f]\\s*:\\s*[\u201c\u201d\u201e"{\\[]')
_AFTER_STRING = re.compile(r"\s*(?:[,:}\]]|\Z)")


def without_trailing_commas(text: str) -> str:
    """The line without a comma before a closing bracket, and without commas at its end."""
    pieces: list[str] = []
    held: list[str] = []

    def hide(match: re.Match[str]) -> str:
        held.append(match.group(0))
        return '"'

    bare = _STRING.sub(hide, text)
    bare = _COMMA_AT_END.sub("", _COMMA_BEFORE_END.sub(r"\1", bare))
    if bare.count('"') != len(held):
        return text  # a quote without its partner: nothing here is certain
    strings = iter(held)
    for piece in re.split('(")', bare):
        pieces.append(next(strings) if piece == '"' else piece)
    return "".join(pieces)


def with_straight_quotes(text: str) -> str:
    """The line with JSON's quotes where strings begin and end with typographic ones; those inside of strings stay.

    A string that begins with a typographic quote ends at one that is followed by ``, : } ]`` or the line's end, outside of
    quotations within it. One that begins with a single quote ends at the first single quote of that kind, since an apostrophe
    may be the same mark: where the text goes on after it, the line is no JSON, and so it is not cured.
    """
    out: list[str] = []
    at = 0
    while at < len(text):
        mark = text[at]
        if mark == '"':
            string = _STRING.match(text, at)
            if string is None:
                return text
            out.append(string.group(0))
            at = string.end()
        elif mark in _OPENING or mark in _SINGLE_OPENING:
            end = _end_of_string(text, at) if mark in _OPENING else _end_of_single(text, at)
            if end is None:
                return text
            # A plain quote inside needs its backslash now that plain quotes are the ends.
            out.append('"' + re.sub(r'(?<!\\)((?:\\\\)*)"', r'\1\\"', text[at + 1 : end]) + '"')
            at = end + 1
        else:
            out.append(mark)
            at += 1
    return "".join(out)


def _end_of_string(text: str, start: int) -> int | None:
    inside = 0
    at = start + 1
    while at < len(text):
        mark = text[at]
        if mark == "\\":
            at += 2
            continue
        if mark == "\u201d" and inside:
            inside -= 1
        elif mark in _CLOSING and _AFTER_STRING.match(text, at + 1):
            return None if _PAIR_INSIDE.search(text, start, at) else at
        elif mark in "\u201c\u201e":
            inside += 1
        at += 1
    return None


def _end_of_single(text: str, start: int) -> int | None:
    at = start + 1
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        if text[at] in _SINGLE_CLOSING and _AFTER_STRING.match(text, at + 1):
            return at
        at += 1
    return None
