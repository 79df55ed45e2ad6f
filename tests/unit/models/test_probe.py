import pytest
import torch

from luthier.models.probe import best, nearest_tokens, relative_change
from tests.support.mini import load_mini


@pytest.mark.parametrize("shape", [(3, 5, 7), (4, 9, 4)])
def test_the_relative_change_is_that_of_the_product(shape: tuple[int, int, int]) -> None:
    rank, size_in, size_out = shape
    generator = torch.Generator().manual_seed(1)
    a, b, weight = (torch.randn(s, generator=generator) for s in ((rank, size_in), (size_out, rank), (size_out, size_in)))
    expected = float((2.5 * b @ a).norm() / weight.norm())
    assert relative_change(a, b, 2.5, weight) == pytest.approx(expected, rel=1e-5)
    assert relative_change(a, torch.zeros_like(b), 2.5, weight) == 0.0
    lengths = torch.rand(size_out, generator=generator) + 0.5
    changed = weight + 2.5 * b @ a
    changed *= (lengths / changed.norm(dim=1))[:, None]
    assert relative_change(a, b, 2.5, weight, lengths) == pytest.approx(float((changed - weight).norm() / weight.norm()), rel=1e-5)
    assert relative_change(a, torch.zeros_like(b), 2.5, weight, weight.norm(dim=1)) == pytest.approx(0.0, abs=1e-6)


def test_the_best_token_has_its_softmax_probability() -> None:
    logits = torch.randn((4, 30), generator=torch.Generator().manual_seed(2)) * 5
    ids, probability = best(logits)
    expected = torch.softmax(logits, dim=-1).max(dim=-1)
    assert torch.equal(ids, expected.indices)
    torch.testing.assert_close(probability, expected.values)


def test_neighbours_point_the_same_way_and_are_others() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 0.5], [-1.0, 0.0]])
    found = nearest_tokens(vectors, 0, 8)
    assert [i for i, _ in found] == [2, 1, 3]
    assert found[0][1] == pytest.approx(5.0 / (25.25**0.5))
    assert found[2][1] == pytest.approx(-1.0)


def test_the_updates_of_the_decoder_make_up_what_leaves_the_block() -> None:
    model = load_mini(adapter="tuned")
    (*_, probe) = model.probe([5, 900, 7, 1200, 42], "tuned", [2, 4], attention_layer=3)
    assert probe is not None
    assert probe.attention_norm_L is not None
    assert probe.mlp_norm_L is not None
    before = torch.cat((probe.residual_norm_L[:1] * 0, probe.residual_norm_L[:-1]))
    # The triangle inequality holds for means of norms, too; the first block starts from the embedding.
    assert bool((probe.residual_norm_L[1:] <= before[1:] + probe.attention_norm_L[1:] + probe.mlp_norm_L[1:] + 1e-4).all())
    changes = dict(model.adapter_changes("tuned"))
    assert len(changes) == 7 * 8
    assert all(change > 0 for change in changes.values())
