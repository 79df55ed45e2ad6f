"""The parts of the mixture: each an endless stream of rows, drawn anew (order, frames, wordings) at every pass.

``text_*``: documents in pieces. ``pairs_all``: every translation. ``pairs_canonical``: one translation for each English.
``pairs_short``: canonical ones of at most six words, with the everyday phrases three times. ``tasks``: task-shaped rows.
Held-out pairs and documents never come out of here, and everyday phrases (``demo_core``) only in neutral frames. Called by ``pack.py``.
"""

import multiprocessing
import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from pretraining import corpus
from pretraining.frames import framed
from pretraining.keep_out import HeldOutPairs, allowed
from pretraining.tasks import TaskMaker

TRAINED_SPLITS = ("train", "demo_core")
_PIECE_CHARACTERS = 4000
_SIMPLE_GENRES = ("storybooks", "aesop", "andersen", "common_voice")
_NOVEL_SHARE = 0.35
"""So much of the pieces of novels is drawn in one pass: plain modern language comes round more often."""
_SHORT_WORDS = 6
_EVERYDAY_TIMES = 3
_TASK_SENTENCES = 60_000


class Material:
    """What the parts of one corpus folder are drawn from, read once: pairs, and for each language the pieces of simple texts and novels."""

    def __init__(self, folder: Path, processes: int = 1) -> None:
        """With more processes all of it is read at once and in parallel; with one, texts are read when they are asked for."""
        self._folder = folder
        self._text: dict[str, tuple[list[str], list[str]]] = {}
        pairs = corpus.pairs(folder)
        if processes == 1:
            self.pairs = trained_pairs(pairs)
            return
        size = -(-len(pairs) // (4 * processes))
        with multiprocessing.get_context("fork").Pool(processes) as pool:
            texts = {language: pool.apply_async(_text_pieces, (folder, language)) for language in corpus.LANGUAGES}
            chunks = [pairs[start : start + size] for start in range(0, len(pairs), size)]
            held = HeldOutPairs(pairs)
            self.pairs = [pair for chunk in pool.imap(partial(_those_trained, held), chunks) for pair in chunk]
            self._text = {language: result.get() for language, result in texts.items()}

    def text(self, language: str) -> tuple[list[str], list[str]]:
        """(pieces of simple texts, pieces of novels) that may be trained on."""
        if language not in self._text:
            self._text[language] = _text_pieces(self._folder, language)
        return self._text[language]


class Parts:
    """All parts over one corpus folder, or over what was read of it before."""

    def __init__(self, source: Path | Material, seed: int) -> None:
        self._material = source if isinstance(source, Material) else Material(source)
        self._seed = seed
        self._pairs = self._material.pairs

    def rows(self, name: str) -> Iterator[str]:
        """The endless rows of one part.

        Raises:
            KeyError: no such part.
        """
        draw = random.Random(f"{self._seed} {name}")
        if name.startswith("text_"):
            return _text_rows(*self._material.text(name.removeprefix("text_")), draw)
        if name == "tasks":
            return self._task_rows(draw)
        chosen = {"pairs_all": self._all_pairs, "pairs_canonical": self._canonical, "pairs_short": self._short}[name]
        return _pair_rows(chosen(), draw)

    def _all_pairs(self) -> list[corpus.Pair]:
        return self._pairs

    def _canonical(self) -> list[corpus.Pair]:
        return [pair for pair in self._pairs if pair.rank == 1]

    def _short(self) -> list[corpus.Pair]:
        short = [pair for pair in self._canonical() if len(pair.en.split()) <= _SHORT_WORDS and pair.source != "cldr"]
        everyday = [pair for pair in short if pair.split == "demo_core" or pair.source == "phrasebook"]
        return short + everyday * (_EVERYDAY_TIMES - 1)

    def _task_rows(self, draw: random.Random) -> Iterator[str]:
        maker = TaskMaker(task_sentences(self._pairs, draw), draw.randrange(1 << 30))
        while True:
            yield maker.row()


def trained_pairs(pairs: Sequence[corpus.Pair]) -> list[corpus.Pair]:
    """The pairs that may be trained on: of the right splits, no talk of translating, and none that contains a held-out pair."""
    return _those_trained(HeldOutPairs(pairs), pairs)


def _those_trained(held: HeldOutPairs, pairs: Sequence[corpus.Pair]) -> list[corpus.Pair]:
    return [
        pair
        for pair in pairs
        if pair.split in TRAINED_SPLITS
        and allowed(pair.en)
        and allowed(pair.fr)
        and next(held.within(f"{pair.en}\n{pair.fr}"), None) is None
    ]


def task_sentences(pairs: Sequence[corpus.Pair], draw: random.Random) -> list[tuple[str, str]]:
    """(language, sentence) for task-shaped rows: no everyday phrase of the demonstration, in either language."""
    everyday = {plain(text) for pair in pairs if pair.split == "demo_core" for text in (pair.en, pair.fr)}
    found = [(language, text) for pair in pairs for language, text in (("en", pair.en), ("fr", pair.fr)) if plain(text) not in everyday]
    return draw.sample(found, min(len(found), _TASK_SENTENCES))


def plain(text: str) -> str:
    """Lower case without punctuation at the ends: how phrases are compared."""
    return text.lower().strip(" .!?")


def _pair_rows(pairs: list[corpus.Pair], draw: random.Random) -> Iterator[str]:
    while True:
        for pair in draw.sample(pairs, len(pairs)):
            yield framed(pair, draw)


def _text_pieces(folder: Path, language: str) -> tuple[list[str], list[str]]:
    simple: list[str] = []
    novels: list[str] = []
    for genre, text in corpus.documents(folder, language, held_out=False):
        (simple if genre in _SIMPLE_GENRES else novels).extend(pieces(text))
    return simple, novels


def _text_rows(simple: list[str], novels: list[str], draw: random.Random) -> Iterator[str]:
    while True:
        chosen = simple + draw.sample(novels, int(len(novels) * _NOVEL_SHARE))
        draw.shuffle(chosen)
        yield from chosen


def pieces(text: str) -> list[str]:
    """A document in pieces of whole paragraphs, of about ``_PIECE_CHARACTERS`` characters; what must be kept out is."""
    out: list[str] = []
    held: list[str] = []
    size = 0
    for paragraph in filter(allowed, text.split("\n")):
        held.append(paragraph)
        size += len(paragraph)
        if size >= _PIECE_CHARACTERS:
            out.append("\n".join(held))
            held, size = [], 0
    if held:
        out.append("\n".join(held))
    return out
