"""Rows whose prompts are equal, or nearly: groups that must not be torn between training and validation.

What it does: prompts count as equal without regard to case, spaces, punctuation at their ends, and numbers where these are not
what the rows are about; with rensa installed (``luthier[data]``), also when about nine of ten of their telling words are the
same (``word_sets.py``). The groups do not depend on the order of the rows. Of the prompts only hashes are kept. What it does not:
choose sides (``split.py``) or report (``doctor/``). Called by both.
"""

import hashlib
import re
from array import array
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from luthier.data.word_sets import Groups, WordSets, minhash

__all__ = ["PromptGroups", "group", "minhash", "normal", "prompts_of"]

_DIGITS = re.compile(r"\d+")
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


class PromptGroups:
    """Takes what each row asks, row by row; then tells the groups."""

    def __init__(self, library: Any | None) -> None:
        """Begin without rows; ``library`` is what ``minhash`` gave."""
        self._library = library
        self._rows = array("Q")
        self._exact = array("Q")
        self._masked = array("Q")
        self._owners, self._owned = array("Q"), array("Q")
        self._words = WordSets()
        self.num_rows = 0

    def add(self, prompts: Sequence[str], owner: str | None = None) -> None:
        """Take the prompts of the next row, as ``prompts_of`` gives them; rows of one owner are in one group."""
        if owner is not None:
            self._owners.append(_key(owner))
            self._owned.append(self.num_rows)
        for prompt in prompts:
            masked = _DIGITS.sub("0", prompt)
            exact = _key(prompt)
            self._rows.append(self.num_rows)
            self._exact.append(exact)
            self._masked.append(exact if masked == prompt else _key(masked))
        if self._library is not None:
            self._words.add(prompts[-1])
        self.num_rows += 1

    def labels(self) -> NDArray[np.int64]:
        """For each row the number of the first row of its group. Ends the object's life."""
        groups = Groups(self.num_rows)
        exact, masked = np.frombuffer(self._exact, dtype=np.uint64), np.frombuffer(self._masked, dtype=np.uint64)
        keys = np.where(np.isin(masked, self._about_numbers(exact, masked)), exact, masked)
        groups.join_equal(keys.tolist(), self._rows)
        groups.join_equal(self._owners, self._owned)
        if self._library is not None:
            for one, other in self._words.links(self._library):
                groups.join(one, other)
        self._words.close()
        return groups.labels()

    def _about_numbers(self, exact: NDArray[np.uint64], masked: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Keys of the wordings whose numbers must not be left out of account."""
        with_numbers = masked != exact
        variants = np.unique(np.stack([masked[with_numbers], exact[with_numbers]]), axis=1)[0]
        wordings, counts = np.unique(variants, return_counts=True)
        return wordings[counts > max(_MANY_NUMBERS, self.num_rows * _MANY_NUMBERS_SHARE)]


def group(prompts: Sequence[Sequence[str]], library: Any | None, keys: Sequence[str | None] = ()) -> list[list[int]]:
    """Groups of rows (their numbers), given what each row asks, and where it is known to which conversation or customer it belongs."""
    groups = PromptGroups(library)
    for asked, key in zip_longest(prompts, keys):
        groups.add(asked, key)
    found: dict[int, list[int]] = {}
    for row, first in enumerate(groups.labels().tolist()):
        found.setdefault(first, []).append(row)
    return list(found.values())


def _key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
