"""The block's hand-written gradient is autograd's, for adapters and for all weights, with and without packed layouts."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from luthier.models import decoder as decoder_module
from luthier.models.adapter_form import AdapterForm
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from tests.support.tiny_models import build

FAST_FAMILIES = ("llama", "qwen2", "qwen3", "smollm3")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _loss(model: LanguageModel) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(32, 8192, (3, 12), generator=generator)
    lengths = torch.tensor([12, 7, 9])
    rows, columns = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([4, 10, 5, 0, 7])
    return F.cross_entropy(model.logits_at(ids, lengths, rows, columns), ids[rows, columns + 1])


def _gradients(model: LanguageModel, parameters: list[torch.nn.Parameter]) -> list[Tensor]:
    for parameter in parameters:
        parameter.grad = None
    _loss(model).backward()
    return [p.grad.clone() for p in parameters if p.grad is not None]


def _perturbed(folder: Path, form: AdapterForm) -> LanguageModel:
    model = load_model(folder)
    model.add_adapter("a", rank=3, alpha=7.0, seed=2, form=form)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.adapter_parameters("a"):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


@pytest.mark.parametrize("family", FAST_FAMILIES)
@pytest.mark.parametrize("what", ["adapter", "full", "full-with-adapter", "dora", "full-with-dora"])
def test_gradients_equal_autograd(family: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _perturbed(build(family, tmp_path / family, num_key_value_heads=2), AdapterForm(dora=what.endswith("dora")))
    parameters = model.adapter_parameters("a") if what != "full" else []
    if what.startswith("full"):
        for parameter in model.all_parameters():
            parameter.requires_grad_(True)
        parameters = parameters + model.all_parameters()
    with model.use_adapter("a" if what != "full" else None):
        mine = _gradients(model, parameters)
        monkeypatch.setattr(decoder_module, "LONG_ROW", 0)
        theirs = _gradients(model, parameters)
    assert len(mine) == len(theirs) == len(parameters)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


def test_the_mean_step_lowers_the_loss(tmp_path: Path) -> None:
    model = load_model(build("llama", tmp_path / "m"))
    model.add_adapter("a", rank=4, alpha=8.0, seed=1)
    optimizer = torch.optim.AdamW(model.adapter_parameters("a"), lr=5e-3, fused=True)
    with model.use_adapter("a"):
        losses = []
        for _ in range(12):
            loss = _loss(model)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        with torch.no_grad():
            quiet = _loss(model).item()
    assert losses[-1] < losses[0] - 0.5
    assert quiet < losses[-1]


def test_kept_layouts_follow_a_changed_weight(tmp_path: Path) -> None:
    model = load_model(build("llama", tmp_path / "m"))
    with torch.no_grad():
        before = _loss(model).item()
        for parameter in model.all_parameters():
            parameter.mul_(1.1)
        after = _loss(model).item()
    for parameter in model.all_parameters():
        parameter.requires_grad_(True)
    assert abs(before - after) > 1e-4
    assert after == pytest.approx(_loss(model).item(), rel=1e-5)


def test_kept_layouts_do_not_outlive_a_training(tmp_path: Path) -> None:
    model = load_model(build("llama", tmp_path / "m"))
    with torch.no_grad():
        before = _loss(model).item()
    for parameter in model.all_parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.all_parameters(), lr=1e-2, fused=True)
    _loss(model).backward()
    optimizer.step()
    trained = _loss(model).item()
    for parameter in model.all_parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        assert _loss(model).item() == pytest.approx(trained, rel=1e-5)
    assert trained < before - 0.1
