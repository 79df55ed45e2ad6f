"""Which rows of a training file use the words of a prompt: cosine of tf-idf vectors over words (Salton and Buckley 1988).

What it does: an index over the prompts of rows, and the best rows for a query. What it does not: read files, know a model: similar words
are no proof that a row made an answer what it is. Called by ``api/nearest_rows.py``.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

_WORD = re.compile(r"\w+")
MAX_WORDS = 400
"""Of one row or query; later ones are not read."""
SHARED_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRow:
    """A training row as text. ``line`` counts from 1."""

    line: int
    prompt: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarRow:
    """A row that uses words of the query."""

    row: TextRow
    similarity: float
    """Cosine, above 0 and at most 1."""
    shared: tuple[str, ...]
    """The words in both, the most telling first."""


@dataclass(slots=True, eq=False)
class RowIndex:
    """Rows by their words."""

    rows: list[TextRow] = field(default_factory=list)
    _counts: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    _norms: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Iterable[TextRow]) -> "RowIndex":
        """Index the prompts of rows."""
        index = cls()
        for number, row in enumerate(rows):
            index.rows.append(row)
            for word, count in _words(row.prompt).items():
                index._counts[word].append((number, count))
        squares = [0.0] * len(index.rows)
        for word, places in index._counts.items():
            rarity = index._rarity(word)
            for number, count in places:
                squares[number] += (_weight(count) * rarity) ** 2
        index._norms = [math.sqrt(s) for s in squares]
        return index

    def similar(self, text: str, count: int) -> tuple[SimilarRow, ...]:
        """The rows most similar to ``text``, best first; fewer where fewer share a word with it."""
        asked = {word: _weight(n) * self._rarity(word) for word, n in _words(text).items() if word in self._counts}
        norm = math.sqrt(sum(w * w for w in asked.values()))
        products: dict[int, float] = defaultdict(float)
        shared: dict[int, list[tuple[float, str]]] = defaultdict(list)
        for word, weight in asked.items():
            for number, times in self._counts[word]:
                part = weight * _weight(times) * self._rarity(word)
                products[number] += part
                shared[number].append((-part, word))
        scores = {n: product / (norm * self._norms[n]) for n, product in products.items() if product > 0}
        best = sorted(scores, key=lambda n: (-scores[n], n))[:count]
        return tuple(
            SimilarRow(row=self.rows[n], similarity=min(1.0, scores[n]), shared=tuple(w for _, w in sorted(shared[n])[:SHARED_SHOWN]))
            for n in best
        )

    def _rarity(self, word: str) -> float:
        # Smoothed: a word in every row still counts a little, so that a file of one row has neighbours too.
        return math.log((1 + len(self.rows)) / (1 + len(self._counts[word]))) + 1e-3


def _words(text: str) -> Counter[str]:
    found = (match.group().lower() for match in _WORD.finditer(text))
    return Counter(word for word, _ in zip(found, range(MAX_WORDS), strict=False))


def _weight(count: int) -> float:
    return 1.0 + math.log(count)
