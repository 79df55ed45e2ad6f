"""Right or wrong, and how sure a difference is: on data whose answer is known."""

import math

import pytest

from pretraining.evaluation.statistics import is_right, pack_hits, paired_bootstrap, share, unpack_hits
from pretraining.evaluation.tables import percent, table


@pytest.mark.parametrize("answer", ["Bonjour", " bonjour ! ", "BONJOUR.", "Bonjour\u00a0!"])
def test_case_outer_punctuation_and_spaces_do_not_count(answer: str) -> None:
    assert is_right(answer, ["Salut", "Bonjour !"])


@pytest.mark.parametrize(("answer", "accepted"), [("Ca va", "Ça va"), ("Bonjour monsieur", "Bonjour"), ("", "Bonjour")])
def test_accents_and_words_count(answer: str, accepted: str) -> None:
    assert not is_right(answer, [accepted])


def test_both_kinds_of_apostrophe_are_one() -> None:
    assert is_right("J\u2019ai faim", ["J'ai faim"])


def test_a_certain_difference_has_no_width() -> None:
    interval = paired_bootstrap([[True] * 20], [[False] * 20])
    assert interval is not None
    assert (interval.mean, interval.low, interval.high) == (1.0, 1.0, 1.0)
    assert str(interval) == "+100.0 [+100.0, +100.0]"


def test_equal_answers_differ_by_nothing() -> None:
    hits = [i % 3 == 0 for i in range(60)]
    interval = paired_bootstrap([hits], [hits])
    assert interval is not None
    assert (interval.mean, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_the_interval_is_that_of_paired_differences() -> None:
    # Of 400 questions 100 are gained, 20 lost, the others the same: mean 0.2, variance (120 - 400 * 0.04) / 400.
    tuned = [True] * 100 + [False] * 20 + [True] * 280
    base = [False] * 100 + [True] * 20 + [True] * 280
    interval = paired_bootstrap([tuned], [base])
    assert interval is not None
    half = 1.96 * math.sqrt((120 - 400 * 0.04) / 400 / 400)
    assert interval.mean == pytest.approx(0.2)
    assert interval.low == pytest.approx(0.2 - half, abs=0.006)
    assert interval.high == pytest.approx(0.2 + half, abs=0.006)


def test_runs_are_averaged_question_by_question() -> None:
    # Each run alone is uncertain; together they are right on exactly half of every question.
    runs = [[i % 2 == 0 for i in range(40)], [i % 2 == 1 for i in range(40)]]
    interval = paired_bootstrap(runs, [[False] * 40])
    assert interval is not None
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.5, 0.5, 0.5))


def test_answers_without_a_score_are_left_out() -> None:
    interval = paired_bootstrap([[1, None, 1, None]], [[0, 0, None, None]])
    assert interval is not None
    assert interval.mean == 1.0
    assert paired_bootstrap([[None, None]], [[0, 1]]) is None


def test_the_same_seed_draws_the_same_interval() -> None:
    hits = [[i % 5 != 0 for i in range(50)]], [[i % 4 == 0 for i in range(50)]]
    assert paired_bootstrap(*hits, draws=200, seed=3) == paired_bootstrap(*hits, draws=200, seed=3)


def test_hits_survive_the_results_file() -> None:
    packed = pack_hits([True, False, False, True])
    assert packed == {"n": 4, "right": 2, "hits": "1001"}
    assert unpack_hits(packed) == [True, False, False, True]
    assert share(packed) == 0.5


def test_tables_line_up_and_keep_their_columns() -> None:
    lines = table(["name", "n"], [["a|b", 3], ["long name", 12345]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[0] == "| name      | n     |"
    assert lines[1] == "|-----------|-------|"
    assert lines[2].startswith("| a\\|b ")
    assert percent(0.125) == "12.5 %"
