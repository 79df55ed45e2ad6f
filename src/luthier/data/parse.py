"""The bytes of one line become a JSON object, or one named fault with its byte.

What it does: strict JSON (UTF-8 only, no NaN, no half characters, no deep nesting), and why a line is not; what the first
bytes of a file give away about the whole of it. What it does not: look inside the object (``validate.py``). Called by
``check.py``.
"""

import re
from typing import Any

import orjson

from luthier.core.archives import HEAD_BYTES, archive_of
from luthier.data.finding import Finding

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
# An escaped pair, an escaped half, any other escape: read in this order from the start of the string.
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)
_SMART_QUOTES = tuple(mark.encode() for mark in "\u201c\u201d\u2018\u2019\u201e\u00ab\u00bb")
_NOT_FINITE = (b"NaN", b"Infinity", b"-Infinity", b"nan", b"inf")
_PYTHON = (b"True", b"False", b"None")
_BY_MESSAGE = (
    ("depth limit", "nested_too_deep"),
    ("trailing comma", "trailing_comma"),
    ("control character", "control_character"),
    ("infinity", "number_not_finite"),
    ("surrogate", "lone_surrogate"),
    ("unexpected end", "cut_off"),
)
# Where the rule says more than the parser does.
_WORDS = {
    "number_not_finite": "a number that is not finite, or too large",
    "python_literal": "a word of Python's",
    "single_quotes": "a single quote where a double quote must stand",
    "smart_quotes": "a typographic quote where a straight one must stand",
    "cr_line_ends": "a carriage return instead of a line feed between objects",
    "extra_content": "a second object on the line",
    "lone_surrogate": "half of a surrogate pair",
    "not_utf8": "bytes that are not UTF-8",
}


def fault_of_head(head: bytes) -> Finding | None:
    """What the first bytes of a file say about all of it: compressed, or UTF-16."""
    if (archive := archive_of(head)) is not None:
        return Finding("compressed_file", f" begins a file that is compressed or packed ({archive.name}); the file must be plain JSONL.")
    # Without a mark, the zero bytes beside the first brace tell.
    if head.startswith(_UTF16_MARKS) or head[:2] in (b"{\x00", b"\x00{", b"[\x00", b"\x00["):
        return Finding("utf16_file", " is encoded as UTF-16; the file must be UTF-8.")
    return None


def parse_object(data: bytes) -> dict[str, Any] | Finding:
    """The JSON object of one line, or what is wrong with it."""
    try:
        row = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return fault_of_head(data[:HEAD_BYTES]) or _why(data, error)
    if type(row) is not dict:
        return Finding("not_an_object", f" is not a JSON object but {_kind(row)}.")
    return row


def _why(data: bytes, error: orjson.JSONDecodeError) -> Finding:
    rule, byte = "not_json", 0
    try:
        text = data.decode()
    except UnicodeDecodeError as fault:
        # ``error.pos`` counts characters; invalid UTF-8 leaves none to count.
        rule, byte = "not_utf8", fault.start
    else:
        byte = len(text[: error.pos].encode())
        rule = next((rule for words, rule in _BY_MESSAGE if words in error.msg), None) or _by_bytes(data, byte)
        if rule == "lone_surrogate":
            byte = next((match.start() for match in _ESCAPE.finditer(data, byte) if match.group(1)), byte)
        elif rule == "number_not_finite" and data[byte - 1 : byte] == b"-":
            byte -= 1
    return Finding(rule, f" is not valid JSON: {_WORDS.get(rule, error.msg)} at byte {byte + 1}.", column=byte + 1)


def _by_bytes(data: bytes, byte: int) -> str:
    """The rule that what stands at the parser's position breaks."""
    if data.startswith(_NOT_FINITE, byte):
        return "number_not_finite"
    if data.startswith(_PYTHON, byte):
        return "python_literal"
    if data.startswith(b"'", byte):
        return "single_quotes"
    if data.startswith(_SMART_QUOTES, byte):
        return "smart_quotes"
    before = data[:byte].rstrip()
    if before.endswith((b"}", b"]")) and b"\r" in data[len(before) : byte + 1]:
        return "cr_line_ends"
    if before.endswith(b"}") and data.startswith((b"{", b"["), byte):
        return "extra_content"
    return "not_json"


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return "a string"
    return "null" if value is None else "a number or boolean"
