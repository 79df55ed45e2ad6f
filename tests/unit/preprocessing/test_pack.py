"""The rows of a step in packed sequences; packing as such is tested in ``tests/properties``."""

from luthier.preprocessing.pack import pack_rows


def test_rows_of_a_step_keep_pairs_together_and_a_longer_one_lies_alone():
    assert pack_rows([7, 3, 9, 4], [5, 30, 4, 6], 10) == [[3], [4, 9], [7]]
    assert pack_rows([4, 5, 0, 1, 8, 9], [3, 4, 2, 2, 6, 1], 11, rows_per_example=2) == [[4, 5, 0, 1], [8, 9]]
    assert pack_rows([4, 5, 0, 1], [3, 4, 9, 8], 11, rows_per_example=2) == [[0, 1], [4, 5]]
    assert pack_rows([2], [40], 10) == [[2]]
