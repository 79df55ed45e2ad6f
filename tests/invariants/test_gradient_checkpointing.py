"""Blocks that are made again on the way back teach what kept ones teach: the same losses and gradients, with less kept."""

from dataclasses import replace

import pytest
import torch

from luthier.core.specs import TuningMethod
from luthier.models import decoder
from luthier.models.adapter_form import AdapterForm
from luthier.models.load import load_model
from luthier.training.loop import Trainer
from tests.support.mini import MINI
from tests.support.tiny_models import build
from tests.support.trainable_model import Recorder, prepared, spec_for

LENGTHS = [7, 30, 2, 19]
IDS_BT = torch.randint(6, 8192, (4, 30), generator=torch.Generator().manual_seed(3))
ROWS_N = torch.tensor([0, 0, 1, 1, 1, 2, 3])
COLUMNS_N = torch.tensor([3, 6, 1, 20, 29, 1, 18])


def _learned(model, method, *, recompute):
    model.recompute = recompute
    if method == "full":
        parameters = model.all_parameters()
    else:
        model.add_adapter("a", rank=4, alpha=8.0, seed=1, form=AdapterForm(dora=method == "dora"))
        parameters = model.adapter_parameters("a")
        for number, parameter in enumerate(parameters):
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    for parameter in parameters:
        parameter.requires_grad_(True)
    kept: list[int] = []

    def keep(tensor):
        kept.append(tensor.nbytes)
        return tensor

    model.module.train()
    with model.use_adapter(None if method == "full" else "a"), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        arguments = (IDS_BT, torch.tensor(LENGTHS), ROWS_N, COLUMNS_N - 1, IDS_BT[ROWS_N, COLUMNS_N], torch.linspace(0.1, 1.5, 7))
        loss, hits, _ = model.losses_at(*arguments)
    size = sum(kept)
    loss.backward()
    gradients = [torch.zeros(()) if p.grad is None else p.grad.clone() for p in parameters]
    for parameter in parameters:
        parameter.grad = None
        parameter.requires_grad_(method != "full")
    model.remove_adapter("a")
    model.recompute = False
    return loss.detach(), hits, gradients, size


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
@pytest.mark.parametrize("way", ["padded", "long", "flat"])
def test_the_fast_path_learns_the_same_bits(tmp_path, monkeypatch, way, method):
    model = load_model(build("qwen3", tmp_path / "m"))
    model.flat = way == "flat"
    if way == "long":
        monkeypatch.setattr(decoder, "LONG_ROW", 8)
    kept = _learned(model, method, recompute=False)
    again = _learned(model, method, recompute=True)
    assert torch.equal(kept[0], again[0])
    assert torch.equal(kept[1], again[1])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(kept[2], again[2], strict=True))
    if way != "padded":  # there the values are kept outside of autograd's sight
        assert again[3] < kept[3]


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_the_general_path_learns_the_same(tmp_path, family, method):
    model = load_model(build(family, tmp_path / "m"))
    kept = _learned(model, method, recompute=False)
    again = _learned(model, method, recompute=True)
    torch.testing.assert_close(again[0], kept[0])
    for ours, theirs in zip(again[2], kept[2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert again[3] < kept[3]
    # And it is off again: the next forward keeps what it kept before.
    assert _learned(model, method, recompute=False)[3] == kept[3]


@pytest.mark.parametrize("method", [TuningMethod.LORA, TuningMethod.FULL])
def test_a_run_has_the_same_bits_and_a_stopped_one_goes_on(tmp_path, method):
    data = prepared(12, vocab_size=6000)
    plain = replace(spec_for(data, method=method, epochs=2, batch_size=4, rate=1e-3), lora_rank=4 if method is TuningMethod.LORA else 0)
    asked = replace(plain, gradient_checkpointing=True)

    def run(spec, folder, hooks):
        Trainer(load_model(MINI), spec, data, None, hooks, folder).run()
        return hooks

    kept, again = run(plain, tmp_path / "kept", Recorder()), run(asked, tmp_path / "again", Recorder())
    assert again.numbers() == kept.numbers()
    first = run(asked, tmp_path / "torn", Recorder(stop_after=3))
    second = run(asked, tmp_path / "torn", Recorder())
    assert [s.loss for s in (*first.steps, *second.steps)] == [s.loss for s in kept.steps]
