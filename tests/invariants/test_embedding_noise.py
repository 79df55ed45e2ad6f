"""NEFTune: the noise has the paper's size, belongs to a row and a step whatever lies beside it, and is nowhere but where a step learns."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from luthier.core.specs import TrainingSpec, TuningMethod
from luthier.models.embedding_noise import EmbeddingNoise
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.training import packing
from luthier.training.attach import ADAPTER_NAME, attach
from luthier.training.loop import Trainer
from luthier.training.noise import noised
from luthier.training.packing import laid_out
from luthier.training.sft import SupervisedObjective
from tests.support.tiny_models import build
from tests.support.token_rows import uneven_rows as rows
from tests.support.trainable_model import Recorder, spec_for

FAMILIES = ("llama", "smollm3", "gpt2", "gemma2", "mamba")
"""The first two take the fast path."""


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    return build(request.param, tmp_path / request.param)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    return build("llama", tmp_path / "llama")


def test_noise_is_uniform_of_the_papers_size_by_row_and_padding_has_none():
    lengths, width = [400, 25], 64
    noise = EmbeddingNoise(5.0, (3, 4)).on_padded(torch.zeros(2, 401, width), lengths)
    for row, length in zip(noise, lengths, strict=True):
        bound, own = 5.0 / math.sqrt(length * width), row[:length]
        assert not row[length:].any()
        assert own.abs().max() <= bound
        assert own.abs().max() > 0.99 * bound
        assert float(own.mean()) == pytest.approx(0.0, abs=4 * bound / math.sqrt(3 * own.numel()))
        assert float(own.std()) == pytest.approx(bound / math.sqrt(3), rel=0.03)
        assert float(own.norm()) == pytest.approx(5.0 / math.sqrt(3), rel=0.03)
        assert float((own < -bound / 2).float().mean()) == pytest.approx(0.25, abs=0.04)


def test_a_rows_noise_is_the_same_beside_others_end_to_end_and_in_any_numbers():
    x = torch.zeros(2, 9, 8)
    one = EmbeddingNoise(1.0, (7, 8)).on_padded(x, [9, 4])
    torch.rand(5)
    assert torch.equal(EmbeddingNoise(1.0, (8, 9)).on_padded(torch.zeros(2, 30, 8), [4, 30])[0, :4], one[1, :4])
    flat = EmbeddingNoise(1.0, (7, 8)).on_flat(torch.zeros(13, 8), [9, 4])
    assert torch.equal(flat, torch.cat([one[0], one[1, :4]]))
    assert torch.equal(EmbeddingNoise(1.0, (7, 8)).on_padded(x.bfloat16(), [9, 4]), one.bfloat16())


def test_no_two_rows_or_steps_share_their_noise(llama):
    model, spec = load_model(llama), replace(spec_for(rows()), neftune_alpha=5.0)
    seen: set[int] = set()
    for seed, step in ((1, 1), (1, 2), (2, 1)):
        with noised(model, replace(spec, seed=seed), step, range(50)):
            assert model.noise is not None
            seen |= set(model.noise.seeds)
        assert model.noise is None
    assert len(seen) == 150


def test_logits_are_those_of_embeddings_with_the_noise_added(folder):
    """Beside transformers, given embeddings that have the noise already."""
    from transformers import AutoModelForCausalLM

    model, theirs = load_model(folder), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    lengths = torch.tensor([19, 12])
    ids_BT = torch.randint(6, 8192, (2, 19), generator=torch.Generator().manual_seed(1))
    at = torch.tensor([0, 0, 1, 1]), torch.tensor([3, 18, 0, 11])
    noise = EmbeddingNoise(10.0, (5, 6))
    plain = model.logits_at(ids_BT, lengths, *at)
    model.noise = noise
    found = model.logits_at(ids_BT, lengths, *at)
    model.noise = None
    with torch.no_grad():
        x = noise.on_padded(theirs.get_input_embeddings()(ids_BT), lengths.tolist())
        mask = (torch.arange(19) < lengths[:, None]).long()
        expected = theirs(inputs_embeds=x, attention_mask=mask).logits[at]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)
    assert float((found - plain).abs().max()) > 0.05
    torch.testing.assert_close(model.logits_at(ids_BT, lengths, *at), plain, rtol=0.0, atol=0.0)


def learn(model: LanguageModel, spec: TrainingSpec, groups: list[list[int]], step: int = 3) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradients of one step whose rows are cut in these groups."""
    name, source = (ADAPTER_NAME if spec.method is TuningMethod.LORA else None), rows()
    parameters = attach(model, spec, None, name)
    if name:
        generator = torch.Generator().manual_seed(7)
        for parameter in parameters:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    loss = 0.0
    with model.use_adapter(name):
        for group in groups:
            with laid_out(model, spec), noised(model, spec, step, group):
                sums = SupervisedObjective().sums(model, source, group)
                sums.loss.backward()
            loss += float(sums.loss.detach())
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense().clone() for p in parameters]
    for parameter in parameters:
        parameter.grad = None
        parameter.requires_grad_(False)
    model.remove_adapter(ADAPTER_NAME)
    return loss, gradients


def check_equal(one: tuple[float, list[torch.Tensor]], two: tuple[float, list[torch.Tensor]], *, tolerance: float = 2e-3) -> None:
    assert one[0] == pytest.approx(two[0], rel=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in one[1])
    assert largest > 1e-3
    for ours, theirs in zip(one[1], two[1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=1e-4 * largest)


@pytest.mark.parametrize("method", list(TuningMethod))
def test_however_a_step_is_cut_it_learns_the_same_under_noise(folder, method):
    model, spec = load_model(folder), replace(spec_for(rows(), method=method), neftune_alpha=20.0)
    whole = learn(model, spec, [list(range(12))])
    check_equal(learn(model, spec, [[11, 3, 5], [0, 1, 2, 4], [10], [6, 7, 8, 9]]), whole)
    assert learn(model, spec, [list(range(12))], step=4)[0] != pytest.approx(whole[0], rel=1e-5)
    assert learn(model, replace(spec, neftune_alpha=0.0), [list(range(12))])[0] != pytest.approx(whole[0], rel=1e-5)


def test_packed_equals_unpacked_under_noise(llama):
    model, spec = load_model(llama), replace(spec_for(rows()), neftune_alpha=20.0)
    groups = [[4, 2, 9, 0], [1, 3, 5, 6, 7, 8]]
    check_equal(learn(model, replace(spec, packing=True), groups), learn(model, spec, groups))


def test_noise_that_vanishes_is_none(folder):
    model, spec = load_model(folder), spec_for(rows())
    check_equal(learn(model, replace(spec, neftune_alpha=1e-7), [list(range(8))]), learn(model, spec, [list(range(8))]))


def test_nothing_but_learning_has_noise(folder, tmp_path):
    """At a rate of zero the base, held-out and sample losses of a run with noise are those without, bit for bit."""
    source, valid = rows(10), rows(5)
    spec = replace(spec_for(source, batch_size=5, epochs=2, rate=0.0), validation_every=1)
    plain, noisy = Recorder(), Recorder()
    Trainer(load_model(folder), spec, source, valid, plain, tmp_path / "plain").run()
    Trainer(load_model(folder), replace(spec, neftune_alpha=15.0), source, valid, noisy, tmp_path / "noisy").run()
    assert noisy.base == plain.base
    assert [s.valid_loss for s in noisy.steps] == [s.valid_loss for s in plain.steps]
    assert [(e.valid_loss, e.sample_loss) for e in noisy.epochs] == [(e.valid_loss, e.sample_loss) for e in plain.epochs]
    assert all(a.loss != b.loss for a, b in zip(noisy.steps, plain.steps, strict=True))
    assert noisy.epochs[0].train_loss != noisy.epochs[1].train_loss, "each step has its own noise"


@pytest.mark.parametrize(("family", "packed"), [("llama", False), ("llama", True), ("gpt2", False)])
@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_run_with_noise_resumes_bit_for_bit(tmp_path, family, stop, packed, monkeypatch):
    monkeypatch.setattr(packing, "most_tokens_of", lambda *_: 90)
    torch.set_num_threads(1)
    folder, source = build(family, tmp_path / family), rows()
    spec = replace(spec_for(source, batch_size=6, epochs=2, rate=1e-3), packing=packed, neftune_alpha=10.0)
    straight, whole = load_model(folder), Recorder()
    Trainer(straight, spec, source, None, whole, tmp_path / "straight").run()
    first, second, model = Recorder(stop_after=stop), Recorder(), load_model(folder)
    Trainer(load_model(folder), spec, source, None, first, tmp_path / "torn").run()
    torch.rand(3)
    Trainer(model, spec, source, None, second, tmp_path / "torn").run()
    assert [(s.step, s.loss) for s in first.steps + second.steps] == [(s.step, s.loss) for s in whole.steps]
    for ours, theirs in zip(model.adapter_parameters(ADAPTER_NAME), straight.adapter_parameters(ADAPTER_NAME), strict=True):
        assert torch.equal(ours, theirs)
