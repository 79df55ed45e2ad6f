"""The order of an epoch is complete, deterministic and bucketed by length; batches are padded on the right."""

import numpy as np
import pytest

from luthier.core.examples import SourceLine
from luthier.core.tokens import Rendered, TokenizedExample
from luthier.preprocessing.batches import collate, epoch_order


@pytest.mark.parametrize("count", [1, 7, 64, 129])
@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_every_example_occurs_once_and_only_one_batch_is_small(count, batch_size):
    lengths = [(n * 7) % 31 + 1 for n in range(count)]
    batches = epoch_order(lengths, batch_size, seed=5, epoch=1)
    assert sorted(index for batch in batches for index in batch) == list(range(count))
    assert len(batches) == -(-count // batch_size)
    assert sum(len(batch) != batch_size for batch in batches) <= 1


def test_the_order_follows_from_seed_and_epoch_alone():
    lengths = list(range(1, 60))
    order = list(epoch_order(lengths, 4, seed=5, epoch=2))
    assert order == list(epoch_order(lengths, 4, seed=5, epoch=2))
    assert order != list(epoch_order(lengths, 4, seed=5, epoch=3))
    assert order != list(epoch_order(lengths, 4, seed=6, epoch=2))


def test_the_order_never_changes_between_versions():
    order = epoch_order([3, 1, 2, 5, 4, 6, 7], 2, seed=1, epoch=1)
    assert list(order) == [[6], [1, 2], [3, 5], [0, 4]]
    assert (order[-1], order[1:3]) == ([0, 4], [[1, 2], [3, 5]])


def test_rows_of_like_length_share_a_batch():
    rng = np.random.default_rng(0)
    lengths = [int(n) for n in rng.integers(5, 200, size=512)]
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in epoch_order(lengths, 8, seed=1, epoch=1))
    assert padded < 1.15 * sum(lengths)


def _example(line: int, ids: list[int], weights: list[float]) -> TokenizedExample:
    rendered = Rendered(ids_T=np.array(ids), weights_T=np.array(weights, dtype=np.float32))
    return TokenizedExample(source=SourceLine("f", line), rendered=rendered)


def test_a_batch_is_padded_on_the_right_with_zeros():
    batch = collate([_example(4, [5, 6, 7], [0, 1, 1]), _example(9, [8], [0])])
    assert batch.ids_BT.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch.weights_BT.tolist() == [[0, 1, 1], [0, 0, 0]]
    assert batch.lengths_B.tolist() == [3, 1]
    assert [source.line for source in batch.sources] == [4, 9]
