"""Sets of words that are nearly the same: linked, in any order, and by what tells them apart."""

import random

import pytest

from luthier.data import word_sets
from luthier.data.word_sets import WordSets
from tests.support.doctor_files import words

rensa = pytest.importorskip("rensa")
LONG = "the quick brown fox jumps over a lazy dog while nine very old wizards watch from behind their garden wall and laugh"


def _groups(texts: list[str]) -> set[frozenset[str]]:
    sets = WordSets()
    for text in texts:
        sets.add(text)
    groups = word_sets.Groups(len(texts))
    for one, other in sets.links(rensa):
        groups.join(one, other)
    sets.close()
    found: dict[int, set[str]] = {}
    for text, label in zip(texts, groups.labels().tolist(), strict=True):
        found.setdefault(label, set()).add(text)
    return {frozenset(members) for members in found.values() if len(members) > 1}


def test_one_word_of_many_is_near_and_one_of_few_is_not():
    near = [f"{LONG} loudly", f"{LONG} quietly"]
    assert _groups([*near, "switch the light on", "switch the light off", "", LONG[::-1]]) == {frozenset(near)}


def test_half_of_the_words_are_not_near():
    draw = random.Random(3)
    shared = words(draw, 10)
    assert _groups([f"{shared} {words(draw, 10)}" for _ in range(5)]) == set()


def test_wording_that_all_share_does_not_make_them_near():
    draw = random.Random(4)
    template = words(draw, 40)
    assert _groups([f"{template} {words(draw, 8)}" for _ in range(200)]) == set()


def test_the_order_does_not_matter():
    draw = random.Random(5)
    texts = []
    for _ in range(60):
        kept = words(draw, 24).split()
        texts += [" ".join([*kept[: draw.randint(20, 24)], *words(draw, 2).split()]) for _ in range(3)]
    groups = _groups(texts)
    assert len(groups) >= 40
    for seed in range(3):
        random.Random(seed).shuffle(texts)
        assert _groups(texts) == groups


def test_words_are_forgotten_and_written_out_without_a_change(monkeypatch):
    draw = random.Random(6)
    texts = [f"{words(draw, 30)} {i % 2}" for i in range(40)]
    texts += [f"{text} more" for text in texts[:10]]
    groups = _groups(texts)
    assert len(groups) == 10
    monkeypatch.setattr(word_sets, "_MAX_KNOWN", 7)
    monkeypatch.setattr(word_sets, "_FLUSH", 50)
    monkeypatch.setattr(word_sets, "_CHUNK", 3)
    assert _groups(texts) == groups


def test_nothing_and_next_to_nothing():
    assert _groups([]) == _groups([""]) == _groups(["", "", "! ?"]) == set()
