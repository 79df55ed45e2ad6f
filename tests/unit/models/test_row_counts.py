"""Few numbers of rows: rounded up, by little, and the model's answers stay what they are."""

import pytest
import torch

from luthier.models.load import load_model
from luthier.models.row_counts import even_rows
from tests.support.tiny_models import mini_folder


def test_numbers_grow_by_little_and_become_few():
    numbers = range(1, 4097)
    assert all(count <= even_rows(count) <= max(count + 3, count * 9 / 8) for count in numbers)
    assert all(even_rows(even_rows(count)) == even_rows(count) for count in numbers)
    assert [even_rows(count) for count in (1, 8, 9, 17, 33, 100, 101, 129, 513)] == [1, 8, 10, 20, 36, 104, 104, 144, 576]
    assert len({even_rows(count) for count in numbers}) < 80


@pytest.mark.parametrize("adapter", [False, True])
def test_a_longer_batch_beside_it_changes_no_row(adapter):
    model = load_model(mini_folder())
    if adapter:
        model.add_adapter("a", rank=4, alpha=8.0, seed=1)
    torch.manual_seed(0)
    ids = torch.randint(6, 4000, (3, 37))
    lengths = torch.tensor([37, 20, 9])
    rows = torch.tensor([row for row, length in enumerate(lengths.tolist()) for _ in range(length - 1)])
    columns = torch.cat([torch.arange(length - 1) for length in lengths.tolist()])
    targets, weights = ids[rows, columns + 1], torch.rand(len(rows))
    with model.use_adapter("a" if adapter else None):
        loss, hits, losses = model.losses_at(ids, lengths, rows, columns, targets, weights)
        token_losses, token_hits = model.token_losses_at(ids, lengths, rows, columns, targets)
        alone = model.logits_at(ids[1:2, :20], lengths[1:2], torch.zeros(19, dtype=torch.long), torch.arange(19))
    own = torch.nn.functional.cross_entropy(alone, targets[rows == 1], reduction="none")
    assert losses.shape == hits.shape == token_losses.shape == token_hits.shape == targets.shape
    assert torch.allclose(losses, (token_losses * weights).detach(), atol=1e-5)
    assert torch.allclose(loss, losses.sum())
    assert torch.equal(hits, token_hits)
    assert torch.allclose(own, token_losses[rows == 1], atol=1e-4)
