"""The corpus: checked files, pairs, documents, and what is held out of pre-training.

What it does: verify the files against ``data/corpus.json``, read sentence pairs and documents, split off held-out text.
What it does not: frames, tokens, mixtures. Called by every other script of this package.
"""

import csv
import hashlib
import json
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pretraining.errors import PretrainingError

DATA = Path(__file__).parent / "data"
HELD_OUT_SHARE = 50
"""One document of so many is never trained on."""
LANGUAGES = {"en": "text_en", "fr": "text_fr"}


@dataclass(frozen=True, slots=True)
class Pair:
    """One English sentence with one French translation."""

    en: str
    fr: str
    source: str
    rank: int
    """1 is the canonical translation of its English."""
    split: str


def verify(folder: Path) -> None:
    """Check that every corpus file is there and is the one that ``data/corpus.json`` names.

    Raises:
        PretrainingError: a file is missing, cut short or another one.
    """
    if not folder.is_dir():
        raise PretrainingError(f"The corpus folder {folder} does not exist. Give it with --corpus (make base-model CORPUS=DIR).")
    for name, facts in json.loads((DATA / "corpus.json").read_text(encoding="utf-8")).items():
        path = folder / name
        if not path.is_file():
            raise PretrainingError(f"The corpus file {path} is missing.")
        size = path.stat().st_size
        if size < facts["bytes"]:
            raise PretrainingError(f"The corpus file {path} is cut short: {size:,} bytes of {facts['bytes']:,}. Copy it again.")
        if hashlib.sha256(path.read_bytes()).hexdigest() != facts["sha256"]:
            raise PretrainingError(f"The corpus file {path} is not the one that this recipe was written for: its SHA-256 differs.")


def pairs(folder: Path) -> list[Pair]:
    """All rows of the pairs file, in its order."""
    with lzma.open(folder / "enfr_pairs.tsv.xz", "rt", encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Pair(row["en"], row["fr"], row["source"], int(row["variant_rank"]), row["split"]) for row in rows]


def documents(folder: Path, language: str, *, held_out: bool) -> Iterator[tuple[str, str]]:
    """(genre, text) of one language's documents: those that are trained on, or those that never are. A paragraph is a line."""
    name = LANGUAGES[language]
    text = _text_bytes(folder / f"{name}.txt.xz")
    with (folder / f"{name}.index.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if is_held_out(row["doc"]) == held_out:
                start = int(row["offset"])
                yield row["part"], text[start : start + int(row["bytes"])].decode().strip()


def is_held_out(document: str) -> bool:
    """Whether a document is held out: by a checksum of its name, so that it never depends on order."""
    return zlib.crc32(document.encode()) % HELD_OUT_SHARE == 0


def heldout_text(folder: Path, language: str) -> list[str]:
    """The held-out documents of one language."""
    return [text for _, text in documents(folder, language, held_out=True)]


def sentences(text: str) -> list[str]:
    """Sentences of one paragraph, cut plainly after a stop that a capital letter follows."""
    out, start = [], 0
    for i in range(len(text) - 2):
        if text[i] in ".!?" and text[i + 1] == " " and text[i + 2].isupper():
            out.append(text[start : i + 1].strip())
            start = i + 2
    out.append(text[start:].strip())
    return [sentence for sentence in out if sentence]


@cache
def _text_bytes(path: Path) -> bytes:
    try:
        with lzma.open(path) as file:
            return file.read()
    except (lzma.LZMAError, EOFError) as error:
        raise PretrainingError(f"The corpus file {path} cannot be unpacked: {error}. Copy it again.") from error
