"""Where a value stands in the bytes of a row: byte offsets for JSON paths, and keys that stand twice.

What it does: scans a line that a strict parser has taken already, without building values and without recursion. What it does
not: parse or judge. Only rows with a finding come here. Called by ``check.py``.
"""

import re
from collections.abc import Iterator, Sequence

import orjson

Step = str | int
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},]', re.DOTALL)
_SCALAR = re.compile(rb"[^\s,\]}]*+")
_SPACE = re.compile(rb"[ \t\r\n]*+")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_KEY = 64


def json_path(steps: Sequence[Step]) -> str:
    """``messages[1].role``; a key that is no plain word stands in brackets and quotes."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _IDENTIFIER.fullmatch(step):
            text += ("." if text else "") + step[:_MAX_KEY]
        else:
            text += f"[{orjson.dumps(step[:_MAX_KEY]).decode()}]"
    return text


def column_of(data: bytes, steps: Sequence[Step]) -> int:
    """The 1-based byte column of the value at a path; of the innermost value on the way that is there, when it is missing.

    ``data`` must be valid JSON. Of a key that stands twice the last one counts, as in parsers.
    """
    at = _space(data, 0)
    for step in steps:
        inner = _element(data, at, step) if isinstance(step, int) else _member(data, at, step)
        if inner is None:
            break
        at = inner
    return at + 1


def repeated_keys(data: bytes) -> Iterator[tuple[tuple[Step, ...], int]]:
    """Path and 1-based byte column of every key that stood in its object before. ``data`` must be valid JSON."""
    # One frame per open bracket: the keys so far (None in a list), and the key or index that the scan is at.
    frames: list[tuple[set[str] | None, list[Step]]] = []
    expects_key = False
    for match in _TOKEN.finditer(data):
        mark = data[match.start()]
        if mark in b"{[":
            frames.append((set(), [""]) if mark == 0x7B else (None, [0]))
            expects_key = mark == 0x7B
        elif mark in b"}]":
            frames.pop()
            expects_key = False
        elif mark == 0x2C:
            keys, step = frames[-1]
            expects_key = keys is not None
            if isinstance(step[0], int):
                step[0] += 1
        elif expects_key:
            keys, step = frames[-1]
            step[0] = key = orjson.loads(match.group())
            expects_key = False
            assert keys is not None
            if key in keys:
                yield tuple(frame[1][0] for frame in frames), match.start() + 1
            keys.add(key)


def _space(data: bytes, at: int) -> int:
    match = _SPACE.match(data, at)
    assert match is not None
    return match.end()


def _end_of(data: bytes, at: int) -> int:
    """Where the value that begins at ``at`` ends."""
    if data[at] not in b"{[":
        match = (_STRING if data[at] == 0x22 else _SCALAR).match(data, at)
        assert match is not None
        return match.end()
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(data, at):
        mark = data[match.start()]
        if mark in b"{[":
            depth += 1
        elif mark in b"}]":
            depth -= 1
            if not depth:
                return match.end()
    return len(data)


def _member(data: bytes, at: int, wanted: str) -> int | None:
    if data[at] != 0x7B:
        return None
    found = None
    at = _space(data, at + 1)
    while data[at] != 0x7D:
        match = _STRING.match(data, at)
        assert match is not None
        at = _space(data, _space(data, match.end()) + 1)
        if orjson.loads(match.group()) == wanted:
            found = at
        at = _space(data, _end_of(data, at))
        if data[at] == 0x2C:
            at = _space(data, at + 1)
    return found


def _element(data: bytes, at: int, wanted: int) -> int | None:
    if data[at] != 0x5B:
        return None
    at = _space(data, at + 1)
    for _ in range(wanted):
        if data[at] == 0x5D:
            return None
        at = _space(data, _end_of(data, at))
        if data[at] == 0x2C:
            at = _space(data, at + 1)
    return None if data[at] == 0x5D else at
