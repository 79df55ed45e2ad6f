"""Every file that fuzzing starts from, or that once broke something, is judged again: ``make fuzz`` without its fuzzer."""

from pathlib import Path

import pytest

from tests.fuzz.data_file_oracle import judge

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"
CORPUS = sorted((FUZZ / "corpus").iterdir())


@pytest.mark.parametrize("path", CORPUS, ids=[path.name for path in CORPUS])
def test_a_file_of_the_corpus_breaks_nothing(path: Path) -> None:
    judge(path.read_bytes())


def test_the_corpus_is_there_and_small() -> None:
    assert len(CORPUS) >= 20
    assert sum(path.stat().st_size for path in CORPUS) < 100_000
