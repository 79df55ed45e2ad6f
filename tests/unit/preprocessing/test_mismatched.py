"""Prompts beside answers of other pairs: who meets whom, and what the rows are."""

from dataclasses import replace

import numpy as np
import pytest

from luthier.preprocessing.mismatched import partners
from luthier.preprocessing.table import table_of_examples
from tests.support.preference_rows import pairs


@pytest.mark.parametrize("count", [2, 3, 21, 1000])
def test_no_prompt_meets_its_own_answers_and_each_answer_is_taken_once(count):
    found = partners(count)
    assert sorted(found) == list(range(2 * count))
    assert not np.any(found // 2 == np.arange(2 * count) // 2)
    assert np.array_equal(found % 2, np.arange(2 * count) % 2), "a preferred answer stands in a preferred one's place"
    assert np.array_equal(found[0::2] // 2, found[1::2] // 2), "both answers of one other pair"


def test_the_answers_never_change_between_versions():
    assert partners(5).tolist() == [8, 9, 6, 7, 2, 3, 0, 1, 4, 5]


def test_a_single_pair_has_its_own_answers_exchanged():
    assert partners(1).tolist() == [1, 0]
    rows = pairs(1)
    first, second = (example.rendered.ids_T.tolist() for example in rows.examples)
    assert [example.rendered.ids_T.tolist() for example in rows.mismatched(64).examples] == [second, first]


def test_a_row_is_a_prompt_and_anothers_answer():
    rows = pairs()
    made = rows.mismatched(64)
    assert (made.rows_per_example, made.num_examples, len(made.examples)) == (2, 21, 42)
    for at, other in enumerate(partners(21)):
        asked, answered, row = rows.examples[at], rows.examples[other], made.examples[at]
        prompt = asked.rendered.ids_T[asked.rendered.weights_T == 0]
        answer = answered.rendered.ids_T[answered.rendered.weights_T != 0]
        assert row.rendered.ids_T.tolist() == [*prompt, *answer]
        assert row.rendered.weights_T.tolist() == [0.0] * len(prompt) + [1.0] * len(answer)
        assert (row.source, row.num_tokens, row.truncated) == (asked.source, made.lengths[at], 0)
    assert made.num_tokens == rows.num_tokens
    assert made.examples[-1].rendered.ids_T.tolist() == made.examples[41].rendered.ids_T.tolist()
    assert len(made.examples[3:7]) == 4


def test_a_row_is_cut_at_the_end_and_keeps_a_token_of_the_answer():
    rows = pairs()
    longest = max(int(np.flatnonzero(example.rendered.weights_T)[0]) for example in rows.examples) + 1
    made, whole = rows.mismatched(longest), rows.mismatched(64)
    assert made.lengths.max() == longest < whole.lengths.max()
    for short, long in zip(made.examples, whole.examples, strict=True):
        assert short.rendered.ids_T.tolist() == long.rendered.ids_T.tolist()[:longest]
        assert short.truncated == long.num_tokens - short.num_tokens
        assert short.rendered.num_trained >= 1


def test_a_table_gives_the_same_rows():
    rows = pairs()
    table = replace(rows, examples=table_of_examples(rows.examples))
    ours, theirs = table.mismatched(6), rows.mismatched(6)
    assert ours.lengths.tolist() == theirs.lengths.tolist()
    for mine, other in zip(ours.examples, theirs.examples, strict=True):
        assert mine.rendered.ids_T.tolist() == other.rendered.ids_T.tolist()
        assert mine.rendered.weights_T.tolist() == other.rendered.weights_T.tolist()
