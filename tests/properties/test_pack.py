"""Packing places every example exactly once, as best-fit decreasing would, and says truly how full the sequences are."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.preprocessing.pack import pack

CAPACITY = 24
LENGTHS = st.lists(st.integers(1, CAPACITY), max_size=60)


def _one_by_one(lengths: list[int]) -> list[int]:
    """Free room of each sequence after best-fit decreasing, placed one example at a time."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [at for at, room in enumerate(rooms) if room >= length]
        if fitting:
            rooms[min(fitting, key=lambda at: rooms[at])] -= length
        else:
            rooms.append(CAPACITY - length)
    return rooms


def _fewest(lengths: list[int]) -> int:
    """The least number of sequences that any packing needs, by trying all."""
    best = len(lengths)

    def put(at: int, rooms: list[int]) -> None:
        nonlocal best
        if len(rooms) >= best:
            return
        if at == len(lengths):
            best = len(rooms)
            return
        for index in range(len(rooms)):
            if rooms[index] >= lengths[at]:
                put(at + 1, [room - lengths[at] * (index == n) for n, room in enumerate(rooms)])
        put(at + 1, [*rooms, CAPACITY - lengths[at]])

    put(0, [])
    return best


@settings(deadline=None)
@given(LENGTHS)
def test_every_example_lies_in_one_place_and_none_overlap(lengths):
    packed = pack(lengths, CAPACITY)
    used = np.zeros((packed.num_rows, CAPACITY), dtype=int)
    for index, length in enumerate(lengths):
        place = packed.placement(index)
        assert place.end - place.start == length
        assert place.end <= CAPACITY
        used[place.row, place.start : place.end] += 1
    assert used.max(initial=0) <= 1
    assert used.sum() == sum(lengths) == packed.num_tokens


@settings(deadline=None)
@given(LENGTHS)
def test_the_sequences_are_those_of_placing_one_by_one(lengths):
    packed = pack(lengths, CAPACITY)
    filled = [sum(lengths[index] for index in sequence) for sequence in packed.sequences()]
    assert sorted(CAPACITY - tokens for tokens in filled) == sorted(_one_by_one(lengths))


@settings(deadline=None)
@given(LENGTHS)
def test_the_lists_of_sequences_agree_with_the_placements(lengths):
    packed = pack(lengths, CAPACITY)
    sequences = packed.sequences()
    assert sorted(index for sequence in sequences for index in sequence) == list(range(len(lengths)))
    for row, sequence in enumerate(sequences):
        assert [packed.placement(index).row for index in sequence] == [row] * len(sequence)
        # Without gaps: each example begins where the one before it ends.
        ends = [0, *(packed.placement(index).end for index in sequence)]
        assert [packed.placement(index).start for index in sequence] == ends[:-1]


@settings(deadline=None)
@given(LENGTHS)
def test_no_two_sequences_would_fit_into_one(lengths):
    """What first-fit guarantees too, and what keeps every packing of it more than half full."""
    packed = pack(lengths, CAPACITY)
    filled = sorted(sum(lengths[index] for index in sequence) for sequence in packed.sequences())
    assert len(filled) < 2 or filled[0] + filled[1] > CAPACITY
    assert packed.num_rows < 2 or packed.efficiency > 0.5


@settings(deadline=None)
@given(st.lists(st.integers(1, CAPACITY), min_size=1, max_size=9))
def test_at_most_eleven_ninths_of_the_fewest_sequences_and_a_part_of_one(lengths):
    """The bound of first-fit and best-fit decreasing (Johnson 1974; Dósa 2007)."""
    assert pack(lengths, CAPACITY).num_rows <= 11 / 9 * _fewest(lengths) + 6 / 9


@settings(deadline=None)
@given(LENGTHS)
def test_the_same_lengths_always_lie_the_same_on_any_thread(lengths):
    with ThreadPoolExecutor(4) as threads:
        packings = list(threads.map(lambda _: pack(np.array(lengths, dtype=np.int32), CAPACITY), range(4)))
    for packed in packings:
        assert packed.rows_I.tolist() == pack(lengths, CAPACITY).rows_I.tolist()
        assert packed.starts_I.tolist() == pack(lengths, CAPACITY).starts_I.tolist()


def test_efficiency_is_tokens_by_places():
    packed = pack([6, 4, 9, 1, 5], 10)
    assert (packed.num_rows, packed.num_tokens) == (3, 25)
    assert packed.efficiency == pytest.approx(25 / 30)
    assert pack([], 10).efficiency == 0.0
    assert pack([], 10).sequences() == []


def test_the_placement_never_changes_between_versions():
    assert pack([3, 7, 5, 2, 8, 3, 10], 10).sequences() == [[6], [4, 3], [1, 0], [2, 5]]


@pytest.mark.parametrize("lengths", [[11], [0], [-1, 3]])
def test_lengths_out_of_bounds_are_refused(lengths):
    with pytest.raises(ValueError, match="between 1 and 10"):
        pack(lengths, 10)


def test_many_examples_of_mixed_lengths_leave_hardly_a_place_empty():
    lengths = np.random.default_rng(3).integers(1, 4097, size=200_000)
    packed = pack(lengths, 4096)
    assert packed.efficiency > 0.99
    assert packed.num_tokens == int(lengths.sum())
