"""The embedded model never read the demo's instruction: the words stand nowhere in what it was made from."""

import lzma
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CORPUS = ROOT.parent / "shared" / "data" / "corpus"
PHRASE = b"translate to french"
CHUNK = 4 * 1024 * 1024


def contains(blocks: Iterator[bytes], phrase: bytes) -> bool:
    """True when the lower-case phrase occurs in the joined blocks, whatever its case there."""
    tail = b""
    for block in blocks:
        window = tail + block.lower()
        if phrase in window:
            return True
        tail = window[-(len(phrase) - 1) :]
    return False


def _blocks(path: Path) -> Iterator[bytes]:
    with lzma.open(path) as stream:
        while block := stream.read(CHUNK):
            yield block


@pytest.mark.parametrize("blocks", [[b"Please TRANSLATE to French: hello"], [b"translate t", b"o fre", b"nch"]])
def test_the_search_finds_the_phrase_across_blocks(blocks: list[bytes]) -> None:
    assert contains(iter(blocks), PHRASE)
    assert not contains(iter([b"translate to", b" german"]), PHRASE)


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the pre-training corpus is not beside the checkout")
def test_the_corpus_of_the_embedded_model_never_says_translate_to_french() -> None:
    files = sorted(CORPUS.glob("*.xz"))
    assert len(files) >= 4
    assert [path.name for path in files if contains(_blocks(path), PHRASE)] == []
