"""Float32 weights as bfloat16: grid numbers stay, small updates count, in any pieces, and in transformers' layers too."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from luthier.models import rounding
from luthier.models.decoder import DecoderModel
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.models.rounding import rounded
from luthier.models.transformers_model import TransformersModel
from tests.support.tiny_models import build

SHAPES = [(300, 576), (1000, 48), (1536,), (4, 30, 96)]


def on_the_grid(*shape: int) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.02).bfloat16().float()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_number_on_the_grid_stays(shape: tuple[int, ...]) -> None:
    weight = on_the_grid(*shape)
    found = rounded(weight, torch.bfloat16)
    assert (found.dtype, found.shape) == (torch.bfloat16, weight.shape)
    assert torch.equal(found.float(), weight)


def test_what_is_no_finite_number_and_both_zeros_stay() -> None:
    weight = torch.tensor([[math.inf, -math.inf, math.nan, 0.0, -0.0]])
    found = rounded(weight, torch.bfloat16).float()
    assert torch.equal(found.nan_to_num(7.0), weight.nan_to_num(7.0))
    assert torch.equal(found.signbit(), weight.signbit())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.4, 0.9])
def test_of_a_learned_share_of_a_grid_step_that_share_is_kept(shape: tuple[int, ...], share: float) -> None:
    """Growing or shrinking in size, every weight by the same share of its own step."""
    weight = on_the_grid(*shape)
    step = torch.ldexp(weight.sign(), torch.frexp(weight).exponent - 8)
    for sign in (1.0, -1.0):
        # Below a power of two the steps are half as large: those few numbers move by other shares.
        moved = rounded(weight + sign * share * step, torch.bfloat16).float() - weight
        assert float((moved / (sign * step)).clamp(0.0, 1.0).mean()) == pytest.approx(share, abs=0.02)
        assert float((moved / (sign * step)).max()) <= 1.0
    if share < 0.5:
        assert torch.equal((weight + share * step).bfloat16().float(), weight), "the nearest would not have moved"


def test_the_pieces_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(700, 90, generator=torch.Generator().manual_seed(2))
    whole = rounded(weight, torch.bfloat16)
    monkeypatch.setitem(rounding._AT_ONCE, "cpu", 90 * 13)
    assert torch.equal(rounded(weight, torch.bfloat16), whole)
    out = torch.empty_like(whole)
    assert rounded(weight, torch.bfloat16, out) is out
    assert torch.equal(out, whole)
    assert torch.equal(rounded(weight.t().contiguous().t(), torch.bfloat16), whole), "whatever its layout"
    tall = torch.randn(70_000, 3, generator=torch.Generator().manual_seed(3))
    monkeypatch.undo()
    whole = rounded(tall, torch.bfloat16)
    monkeypatch.setitem(rounding._AT_ONCE, "cpu", 3 * 32_768)
    assert torch.equal(rounded(tall, torch.bfloat16), whole), "past the thresholds' period"


def test_other_formats_get_the_nearest() -> None:
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(4))
    assert torch.equal(rounded(weight, torch.float16), weight.half())
    assert torch.equal(rounded(weight, torch.float32), weight)
    assert torch.equal(rounded(weight.bfloat16(), torch.float32), weight.bfloat16().float())
    assert torch.equal(rounded(weight, torch.float16, torch.empty(5, 7, dtype=torch.float16)), weight.half())
    assert rounded(torch.tensor(0.3), torch.bfloat16) == torch.tensor(0.3).bfloat16()


def loss_of(model: LanguageModel) -> Tensor:
    ids = torch.randint(32, 8192, (3, 12), generator=torch.Generator().manual_seed(5))
    rows, columns = torch.tensor([0, 0, 1, 2]), torch.tensor([4, 10, 5, 7])
    return model.losses_at(ids, torch.tensor([12, 7, 9]), rows, columns, ids[rows, columns + 1], torch.ones(4))[0]


def learning(family: str, folder: Path, *, narrow: bool) -> LanguageModel:
    model = load_model(folder if folder.exists() else build(family, folder))
    for parameter in model.all_parameters():
        parameter.data = parameter.data.bfloat16().float()
        parameter.requires_grad_(True)
    model.narrow = narrow
    return model


@pytest.mark.parametrize("family", ["gpt2", "olmo2", "gemma2"])
@pytest.mark.parametrize("recompute", [False, True])
def test_through_transformers_gradients_are_those_of_float32(tmp_path: Path, family: str, recompute: bool) -> None:
    exact, mixed = (learning(family, tmp_path / family, narrow=narrow) for narrow in (False, True))
    assert isinstance(mixed, TransformersModel)
    mixed.recompute = recompute
    for model in (exact, mixed):
        loss_of(model).backward()
    for wanted, found in zip(exact.all_parameters(), mixed.all_parameters(), strict=True):
        assert wanted.grad is not None
        assert found.grad is not None
        torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-4, atol=1e-5 * float(wanted.grad.abs().max()))


@pytest.mark.parametrize("family", ["gpt2", "olmo2", "llama"])
def test_an_update_below_half_a_grid_step_shows_in_the_loss(tmp_path: Path, family: str) -> None:
    """As much as in float32, where every weight moves by a third of a step the way that its gradient points."""
    exact, mixed = (learning(family, tmp_path / family, narrow=narrow) for narrow in (False, True))
    changes = []
    for model in (exact, mixed):
        before = loss_of(model)
        before.backward()
        with torch.no_grad():
            for parameter in model.all_parameters():
                if parameter.grad is not None and parameter.ndim == 2:
                    parameter -= 0.3 * 2.0**-8 * parameter.abs() * parameter.grad.sign()
        changes.append(float(loss_of(model).detach() - before.detach()))
    assert changes[0] < 0
    assert changes[1] == pytest.approx(changes[0], rel=0.35)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_saved_model_has_the_weights_that_were_multiplied_by(tmp_path: Path, family: str) -> None:
    model = learning(family, tmp_path / family, narrow=True)
    assert isinstance(model, DecoderModel | TransformersModel)
    model.facts = replace(model.facts, dtype="bfloat16")
    with torch.no_grad():
        for parameter in model.all_parameters():
            parameter += 1e-5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(6))
    (tmp_path / "saved").mkdir()
    model.save_full(tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    for own, read in zip(model.all_parameters(), again.all_parameters(), strict=True):
        assert torch.equal(rounded(own, torch.bfloat16).float(), read)
