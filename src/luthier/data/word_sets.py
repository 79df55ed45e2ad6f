"""Sets of words, one for each text, of which about nine in ten are the same: found by MinHash, in little memory.

What it does: keeps four bytes for each word of each set in a temporary file, leaves out words that stand in many sets, and links
the sets whose overlap (Jaccard) is at least ``LEAST_OVERLAP``. MinHash (rensa) proposes the pairs, the sets themselves decide.
The links do not depend on the order of the sets. What it does not: keep texts, or know what they are (``near_equal.py`` and
``doctor/`` do).
"""

import importlib
import re
import tempfile
import zlib
from array import array
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

LEAST_OVERLAP = 0.8
MIN_WORDS = 6
"""With fewer telling words, one of them is a difference in meaning."""
_BANDS, _ROWS = 14, 9
"""Two sets whose overlap is 0.9 share one of the bands, and so become a pair, with a chance of 0.999; 0.8 with 0.87, 0.6 with 0.13."""
_COMMON_SHARE = 0.05
"""A word in more than this share of the sets belongs to the task's wording, and does not tell them apart."""
_MIN_COMMON = 5
_WORD = re.compile(r"\w+")
_BUCKETS = 1 << 22
"""Sets are counted per bucket of words; a rare word that falls into a common one's bucket (1 in 20,000) counts as common."""
_FLUSH = 1 << 20
_CHUNK = 4096
_MAX_KNOWN = 200_000


def minhash() -> Any | None:
    """The library that proposes pairs, or None when it is not installed."""
    try:
        return importlib.import_module("rensa")
    except ImportError:
        return None


class _Numbers(dict[str, int]):
    """Word -> its number, the same in every process. Forgets all when it grows large, which costs time but changes nothing."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _MAX_KNOWN:
            self.clear()
        number = self[word] = zlib.crc32(word.encode("utf-8", "surrogatepass"))
        return number


class WordSets:
    """Takes texts one by one; then links those that are nearly the same."""

    def __init__(self) -> None:
        self._numbers = _Numbers()
        self._waiting = array("I")
        self._ends = array("Q")
        self._total = 0
        self._counts = np.zeros(_BUCKETS, dtype=np.uint32)
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, text: str) -> None:
        """Take the words of a text that is in lower case."""
        words = set(_WORD.findall(text))
        self._waiting.extend(map(self._numbers.__getitem__, words))
        self._total += len(words)
        self._ends.append(self._total)
        if len(self._waiting) >= _FLUSH:
            self._flush()

    def close(self) -> None:
        """Give the temporary file back."""
        if self._file is not None:
            self._file.close()

    def links(self, library: Any) -> Iterator[tuple[int, int]]:
        """Pairs of sets (their numbers, in the order in which they came) that connect all that is nearly the same.

        Args:
            library: what ``minhash`` gave.
        """
        self._flush()
        if len(self._ends) < 2 or self._file is None:
            return
        tree = _Tree(len(self._ends))
        words = np.memmap(self._file, dtype=np.uint32, mode="r")
        ends = np.frombuffer(self._ends, dtype=np.uint64)
        common = self._counts > max(_MIN_COMMON, len(ends) * _COMMON_SHARE)
        owners, keys, content = _sketched(words, ends, common, library)
        for band in range(_BANDS):
            for one, other in _candidates(keys[:, band], content):
                pair = int(owners[one]), int(owners[other])
                if tree.root(pair[0]) != tree.root(pair[1]) and _overlap(words, ends, common, *pair) >= LEAST_OVERLAP:
                    tree.join(*pair)
                    yield pair

    def _flush(self) -> None:
        if self._waiting:
            new = np.frombuffer(self._waiting, dtype=np.uint32)
            self._counts += np.bincount(new & (_BUCKETS - 1), minlength=_BUCKETS).astype(np.uint32)
            if self._file is None:
                # Unnamed: gone with the object, or with the process.
                self._file = tempfile.TemporaryFile()  # noqa: SIM115
            self._file.write(new.tobytes())
            self._file.flush()
            self._waiting = array("I")


def _sketched(
    words: NDArray[np.uint32], ends: NDArray[np.uint64], common: NDArray[np.bool_], library: Any
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint64]]:
    """Of each set with enough telling words: its number, the keys of its bands, and a number for its whole sketch."""
    found: list[tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint64]]] = []
    factors = _odd_numbers(_ROWS * _BANDS).reshape(_BANDS, _ROWS)
    for first in range(0, len(ends), _CHUNK):
        last = min(first + _CHUNK, len(ends))
        start = int(ends[first - 1]) if first else 0
        part = np.asarray(words[start : int(ends[last - 1])])
        keep = ~common[part & (_BUCKETS - 1)]
        counts = np.concatenate(([0], np.cumsum(keep)))[ends[first:last].astype(np.int64) - start]
        sizes = np.diff(counts, prepend=0)
        enough = sizes >= MIN_WORDS
        if not enough.any():
            continue
        owners = np.flatnonzero(enough) + first
        tokens = part[keep][np.repeat(enough, sizes)].astype(np.uint64)
        offsets = np.concatenate(([0], np.cumsum(sizes[enough]))).astype(np.uint64)
        matrix = library.RMinHash.digest_matrix_from_flat_token_hashes(tokens, offsets, _BANDS * _ROWS, 1)
        flat = np.fromiter(chain.from_iterable(matrix.to_rows()), dtype=np.uint64, count=len(owners) * _BANDS * _ROWS)
        bands = _mixed((flat.reshape(len(owners), _BANDS, _ROWS) * factors).sum(axis=2, dtype=np.uint64))
        found.append((owners, bands, _mixed(bands.sum(axis=1, dtype=np.uint64))))
    if not found:
        return np.zeros(0, np.int64), np.zeros((0, _BANDS), np.uint64), np.zeros(0, np.uint64)
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))  # type: ignore[return-value]


def _odd_numbers(count: int) -> NDArray[np.uint64]:
    return np.random.default_rng(1).integers(1, 1 << 63, count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The values with every bit depending on all bits (the finaliser of MurmurHash3)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        values = (values ^ (values >> np.uint64(33))) * np.uint64(factor)
    return values ^ (values >> np.uint64(33))


def _candidates(keys: NDArray[np.uint64], content: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Sets that share a band's key: each with the first one of that key and with the one before it."""
    order = np.lexsort((content, keys))
    same = keys[order][1:] == keys[order][:-1]
    first = 0
    for position in np.flatnonzero(same).tolist():
        if not position or not same[position - 1]:
            first = position
        yield int(order[first]), int(order[position + 1])
        if position != first:
            yield int(order[position]), int(order[position + 1])


def _overlap(words: NDArray[np.uint32], ends: NDArray[np.uint64], common: NDArray[np.bool_], one: int, other: int) -> float:
    """Of the telling words, or of all words where that is less: two sets may differ in words that many others have."""
    sets = [np.asarray(words[int(ends[number - 1]) if number else 0 : int(ends[number])]) for number in (one, other)]
    telling = [part[~common[part & (_BUCKETS - 1)]] for part in sets]
    return min(_jaccard(*telling), _jaccard(*sets))


def _jaccard(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    first, second = set(one.tolist()), set(other.tolist())
    return len(first & second) / len(first | second)


class _Tree:
    """Numbers that belong together: the connected parts."""

    def __init__(self, size: int) -> None:
        self._parent = array("Q", range(size))

    def root(self, number: int) -> int:
        parent = self._parent
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self.root(one), self.root(other)))
        self._parent[second] = first


class Groups(_Tree):
    """Numbers 0 to ``size`` - 1 in groups."""

    def join_equal(self, keys: Iterable[int], owners: Iterable[int]) -> None:
        """Numbers with one key are in one group."""
        seen: dict[int, int] = {}
        for key, owner in zip(keys, owners, strict=True):
            first = seen.setdefault(key, owner)
            if first != owner:
                self.join(first, owner)

    def labels(self) -> NDArray[np.int64]:
        """The least number of each one's group."""
        return np.fromiter((self.root(number) for number in range(len(self._parent))), dtype=np.int64, count=len(self._parent))
