"""Rows out of a ``.json`` file: an array of objects, or an object that has one such array inside.

What it does: reads the file as a whole and tells each row's line. What it does not: JSON lines (``sources.py``, which calls it).
"""

import json
import re
from collections.abc import Iterator

import orjson

from luthier.core.errors import InvalidRequest
from luthier.data.source_row import SourceRow

_SPACE = re.compile(r"[ \t\r\n]*")
_SHOWN_KEYS = 20


def array_rows(text: str, at: int = 0) -> Iterator[SourceRow]:
    """The objects of the array that begins at ``at``; what follows the array is not looked at.

    A value that is no object, and the place where the JSON breaks off, are rows with a fault.
    """
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    number, counted = text.count("\n", 0, at) + 1, at
    at = text.index("[", at) + 1
    while True:
        at = _skip_space(text, at)
        number += text.count("\n", counted, at)
        counted = at
        if text.startswith("]", at):
            break
        try:
            value, at = decoder.raw_decode(text, at)
            orjson.dumps(value)  # half characters and numbers beyond 64 bits are refused here
        except (ValueError, RecursionError, orjson.JSONEncodeError) as error:
            yield SourceRow(f"line {number}", None, f"it is not valid JSON: {error}; nothing after it was read.")
            return
        is_object = isinstance(value, dict)
        yield SourceRow(f"line {number}", value if is_object else None, "" if is_object else "it is not a JSON object.")
        at = _skip_space(text, at)
        if text.startswith(",", at):
            at += 1
        elif not text.startswith("]", at):
            fault = "after it, a comma or the end of the array is missing; nothing after it was read."
            yield SourceRow(f"line {number}", None, fault)
            return
    if text.lstrip().startswith("[") and text[at + 1 :].strip():
        yield SourceRow(f"line {number}", None, "something follows the end of the array, and was not read.")


def array_inside(text: str, name: str) -> int:
    """Where the one list of objects begins that an object has at its top, as in ``{"version": 1, "data": [{...}, ...]}``.

    Raises:
        InvalidRequest: it has none, or several.
    """
    decoder = json.JSONDecoder()
    at = _skip_space(text, text.index("{") + 1)
    lists: dict[str, int] = {}
    keys: list[str] = []
    try:
        while not text.startswith("}", at):
            key, at = decoder.raw_decode(text, at)
            at = _skip_space(text, at)
            at = _skip_space(text, at + 1) if text.startswith(":", at) else at
            value, end = decoder.raw_decode(text, at)
            keys.append(str(key))
            if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
                lists[str(key)] = at
            at = _skip_space(text, end)
            at = _skip_space(text, at + 1) if text.startswith(",", at) else at
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{name} is neither an array of rows nor JSON lines, and not valid JSON: {error}.") from error
    if len(lists) == 1:
        return next(iter(lists.values()))
    if lists:
        cure = f"Take one out: jq -c '.{next(iter(lists))}[]' {name} > NEW.jsonl"
        raise InvalidRequest(f"{name} is an object with several lists of rows: {_shown(list(lists))}. {cure}")
    raise InvalidRequest(f"{name} is an object without a list of rows; its keys are: {_shown(keys)}.")


def _shown(keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
    return (", ".join(keys[:_SHOWN_KEYS]) or "none") + more


def _skip_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")
