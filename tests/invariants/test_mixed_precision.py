"""Full tuning in mixed precision: bfloat16 between float32 weights gives float32's losses and gradients, up to rounding."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from luthier.models import decoder as decoder_module
from luthier.models import matrix
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from tests.support.tiny_models import build

FAMILIES = ("llama", "qwen2", "qwen3", "smollm3")
"""With a tied head and without, with biases, with norms of heads, with layers that do not rotate."""
_ROUNDING = 2.0**-8
"""Of one number in bfloat16."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _learning(folder: Path, *, narrow: bool) -> LanguageModel:
    model = load_model(folder)
    for parameter in model.all_parameters():
        # As a file of bfloat16 numbers has them; what happens between those is test_rounding.py's.
        parameter.data = parameter.data.bfloat16().float()
        parameter.requires_grad_(True)
    model.narrow = narrow
    return model


def _loss(model: LanguageModel) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(32, 8192, (3, 12), generator=generator)
    lengths = torch.tensor([12, 7, 9])
    rows, columns = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([4, 10, 5, 0, 7])
    weights = torch.tensor([1.0, 0.5, 1.0, 1.0, 0.0])
    return model.losses_at(ids, lengths, rows, columns, ids[rows, columns + 1], weights)[0]


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("rows", ["short", "long", "end to end"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_float32(family: str, rows: str, recompute: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build(family, tmp_path / family, num_key_value_heads=2)
    if rows == "long":
        monkeypatch.setattr(decoder_module, "LONG_ROW", 0)
    exact, mixed = _learning(folder, narrow=False), _learning(folder, narrow=True)
    mixed.recompute, mixed.flat = recompute, rows == "end to end"
    losses = [_loss(exact), _loss(mixed)]
    for loss in losses:
        loss.backward()
    exact_loss, mixed_loss = (float(loss.detach()) for loss in losses)
    assert mixed_loss == pytest.approx(exact_loss, rel=_ROUNDING)
    assert mixed_loss != exact_loss
    for wanted, found in zip(exact.all_parameters(), mixed.all_parameters(), strict=True):
        assert wanted.grad is not None
        assert found.grad is not None
        assert found.grad.dtype == torch.float32
        assert float((found.grad - wanted.grad).norm()) <= 8 * _ROUNDING * float(wanted.grad.norm())


@pytest.mark.parametrize("end_to_end", [False, True])
def test_it_follows_the_weights(tmp_path: Path, end_to_end: bool) -> None:
    model = _learning(build("llama", tmp_path / "llama"), narrow=True)
    model.flat = end_to_end
    before = float(_loss(model).detach())
    optimizer = torch.optim.SGD(model.all_parameters(), lr=0.5)
    _loss(model).backward()
    optimizer.step()
    (tmp_path / "moved").mkdir()
    model.save_full(tmp_path / "moved")
    again = load_model(tmp_path / "moved")
    again.narrow, again.flat = True, end_to_end
    after = float(_loss(model).detach())
    assert after == float(_loss(again).detach())
    assert after != before


@pytest.mark.parametrize("end_to_end", [False, True])
def test_each_micro_batch_adds_to_the_gradient(tmp_path: Path, end_to_end: bool) -> None:
    """The tied head's gradient, which is added to the lookup's rows in place, is neither lost nor counted twice."""
    model = _learning(build("llama", tmp_path / "llama", tie_word_embeddings=True), narrow=True)
    model.flat = end_to_end
    _loss(model).backward()
    once = [p.grad.clone() for p in model.all_parameters() if p.grad is not None]
    _loss(model).backward()
    for single, parameter in zip(once, model.all_parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, 2 * single)


@pytest.mark.parametrize(("rows", "width", "out"), [(768, 3072, 576), (700, 576, 576), (513, 2048, 512), (768, 768, 768)])
def test_a_product_in_pieces_is_the_product(rows: int, width: int, out: int) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(rows, width, generator=generator).bfloat16()
    weight = torch.nn.Parameter(torch.randn(out, width, generator=generator).bfloat16(), requires_grad=False)
    torch.testing.assert_close(matrix.Matrix(weight).times(x), F.linear(x, weight), rtol=2 * _ROUNDING, atol=width * 2.0**-12)
