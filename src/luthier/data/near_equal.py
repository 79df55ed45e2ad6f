"""Rows whose prompts are equal, or nearly: groups that must not be torn between training and validation.

What it does: prompts count as equal without regard to case, spaces, punctuation at their ends, and numbers where these are not
what the rows are about; with rensa installed (``luthier[data]``), also when about nine of ten of their telling words are the
same (MinHash). The groups do not depend on the order of the rows. What it does not: choose sides (``split.py``).
"""

import hashlib
import importlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"\w+")
_BANDS, _ROWS = 8, 16
"""Two sets of words whose overlap is 0.95 share one of the bands with a chance of 0.99, 0.85 with 0.46, 0.7 with 0.03."""
_MIN_WORDS = 6
"""With fewer telling words, one of them is a difference in meaning."""
_COMMON_SHARE = 0.05
"""A word in more than this share of the prompts belongs to the task's wording, and does not tell rows apart."""
_MIN_COMMON = 5
_MANY_NUMBERS, _MANY_NUMBERS_SHARE = 10, 0.01
"""Where more prompts than this (and than this share of all) differ in numbers only, as in sums, numbers are what they are about."""


def normal(text: str) -> str:
    """The text without what does not tell prompts apart."""
    return " ".join(text.casefold().split()).strip(" .!?,;:")


def prompts_of(row: Mapping[str, Any]) -> list[str]:
    """What is asked before each answer of a row, normal; the last one is the row's whole prompt.

    A longer talk has the prompts of the shorter one that it goes on from, so both fall into one group.
    """
    if "messages" not in row and "prompt" in row:
        return [normal(str(row["prompt"]))]
    asked = row.get("input")
    messages = (asked if isinstance(asked, dict) else row).get("messages")
    if not isinstance(messages, list):
        return [normal(orjson.dumps(row).decode())]
    prompts: list[str] = []
    said: list[str] = []
    waiting = False
    for message in messages:
        if not isinstance(message, dict) or message.get("role") in ("system", "developer"):
            continue
        if message.get("role") == "assistant" and waiting:
            prompts.append("\n".join(said))
        waiting = message.get("role") != "assistant"
        said.append(normal(_text(message.get("content"))))
    if waiting or not prompts:
        prompts.append("\n".join(said))
    return prompts


def _text(content: object) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def minhash() -> Any | None:
    """The library that finds near-equal prompts, or None when it is not installed."""
    try:
        return importlib.import_module("rensa")
    except ImportError:
        return None


class Groups:
    """Row numbers that belong together: the connected parts of "has an equal, or nearly equal, prompt"."""

    def __init__(self, num_rows: int) -> None:
        self._parent = list(range(num_rows))
        self._seen: dict[bytes, int] = {}

    def same(self, key: bytes, row: int) -> None:
        """Rows with one key are in one group."""
        first = self._seen.setdefault(key, row)
        if first != row:
            self._join(first, row)

    def _root(self, row: int) -> int:
        parent = self._parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def _join(self, one: int, other: int) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        self._parent[second] = first

    def all(self) -> list[list[int]]:
        """The groups."""
        found: dict[int, list[int]] = {}
        for row in range(len(self._parent)):
            found.setdefault(self._root(row), []).append(row)
        return list(found.values())


def group(prompts: Sequence[Sequence[str]], library: Any | None, keys: Sequence[str | None] = ()) -> list[list[int]]:
    """Groups of rows (their numbers), given what each row asks, and where it is known to which conversation or customer it belongs."""
    groups = Groups(len(prompts))
    for row, key in enumerate(keys):
        if key is not None:
            groups.same(hashlib.blake2b(key.encode(), digest_size=18).digest(), row)
    about_numbers = _about_numbers(prompts)
    for row, asked in enumerate(prompts):
        for prompt in asked:
            masked = _key(_DIGITS.sub("0", prompt))
            groups.same(_key(prompt) if masked in about_numbers else masked, row)
    if library is not None:
        whole = [asked[-1] for asked in prompts]
        common = _common_words(whole)
        for row, prompt in enumerate(whole):
            words = set(_WORD.findall(prompt)) - common
            if len(words) >= _MIN_WORDS:
                for key in _bands(sorted(words), library):
                    groups.same(key, row)
    return groups.all()


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _about_numbers(prompts: Sequence[Sequence[str]]) -> set[bytes]:
    """Keys of the wordings whose numbers must not be left out of account."""
    variants: dict[bytes, set[bytes]] = {}
    for asked in prompts:
        for prompt in asked:
            masked = _DIGITS.sub("0", prompt)
            if masked != prompt:
                variants.setdefault(_key(masked), set()).add(_key(prompt))
    limit = max(_MANY_NUMBERS, len(prompts) * _MANY_NUMBERS_SHARE)
    return {key for key, found in variants.items() if len(found) > limit}


def _common_words(prompts: Iterable[str]) -> set[str]:
    counts: Counter[str] = Counter()
    num = 0
    for prompt in prompts:
        num += 1
        counts.update(set(_WORD.findall(prompt)))
    return {word for word, count in counts.items() if count > max(_MIN_COMMON, num * _COMMON_SHARE)}


def _bands(words: list[str], library: Any) -> list[bytes]:
    sketch = library.RMinHash(num_perm=_BANDS * _ROWS, seed=1)
    sketch.update(words)
    digest = sketch.digest()
    return [
        hashlib.blake2b(f"{band}:{digest[band * _ROWS : (band + 1) * _ROWS]}".encode(), digest_size=17).digest() for band in range(_BANDS)
    ]
