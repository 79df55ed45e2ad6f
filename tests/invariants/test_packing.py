"""A packed step learns what the same rows teach side by side, on real models: losses, gradients, whole runs, and a resume bit for bit."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from luthier.core.row_losses import read_epoch
from luthier.core.specs import TrainingSpec, TuningMethod
from luthier.models.facts import read_config
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared
from luthier.training import packing
from luthier.training.attach import ADAPTER_NAME, attach
from luthier.training.dry_run import dry_run
from luthier.training.loop import Trainer
from luthier.training.objective import Totals
from luthier.training.packing import laid_out, step_forwards
from luthier.training.plan import plan_run
from luthier.training.sft import Room, SupervisedObjective, micro_batches
from luthier.training.work import shape_of
from tests.support.tiny_models import build
from tests.support.token_rows import uneven_rows as rows
from tests.support.trainable_model import Recorder, spec_for


@pytest.fixture(params=["llama", "qwen3", "smollm3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    return build(request.param, tmp_path / request.param)


def few_tokens(monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    """Sequences of so many tokens, so that a small step has several."""
    monkeypatch.setattr(packing, "most_tokens_of", lambda *_: tokens)


def learn(model: LanguageModel, spec: TrainingSpec, source: Prepared) -> tuple[Totals, list[torch.Tensor], int]:
    """Sums and gradients of one step over all rows, and its forwards."""
    name = ADAPTER_NAME if spec.method is TuningMethod.LORA else None
    parameters = attach(model, spec, None, name)
    if name:
        generator = torch.Generator().manual_seed(7)
        for parameter in parameters:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    totals, objective, forwards = Totals(), SupervisedObjective(), 0
    with model.use_adapter(name):
        for group in step_forwards(spec, range(len(source.examples)), source, model.facts):
            with laid_out(model, spec):
                sums = objective.sums(model, source, group)
                sums.loss.backward()
            totals, forwards = totals.plus(sums), forwards + 1
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense().clone() for p in parameters]
    for parameter in parameters:
        parameter.grad = None
        parameter.requires_grad_(False)
    model.remove_adapter(ADAPTER_NAME)
    return totals, gradients, forwards


@pytest.mark.parametrize("method", list(TuningMethod))
def test_a_packed_step_equals_the_unpacked_one(folder, method, monkeypatch):
    few_tokens(monkeypatch, 150)
    source, model = rows(), load_model(folder, dtype=torch.float64)
    spec = spec_for(source, method=method)
    plain, packed = learn(model, spec, source), learn(model, replace(spec, packing=True), source)
    assert packed[2] >= 3
    assert not model.flat
    assert (plain[0].count, plain[0].num_correct, plain[0].num_tokens) == (packed[0].count, packed[0].num_correct, packed[0].num_tokens)
    assert packed[0].loss == pytest.approx(plain[0].loss, rel=1e-6)
    largest = max(float(gradient.abs().max()) for gradient in plain[1])
    assert largest > 1e-3
    for ours, theirs in zip(packed[1], plain[1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=1e-6 * largest)


def test_a_packed_run_has_the_losses_of_an_unpacked_one_and_each_line_once(folder, tmp_path, monkeypatch):
    few_tokens(monkeypatch, 90)
    source, valid = rows(), rows(5)
    spec = spec_for(source, batch_size=6, epochs=2, rate=1e-3)
    seen = []
    for name, chosen in (("plain", spec), ("packed", replace(spec, packing=True))):
        hooks, run = Recorder(), tmp_path / name
        run.mkdir()
        Trainer(load_model(folder), chosen, source, valid, hooks, run / "state", run_dir=run).run()
        seen.append((hooks, list(read_epoch(run, 2))))
    (plain, plain_rows), (packed, packed_rows) = seen
    assert packed.base == plain.base, "what measures the base does not know of packing"
    assert len(packed.steps) == len(plain.steps) == spec.total_steps
    for ours, theirs in zip(packed.steps, plain.steps, strict=True):
        assert (ours.lines, ours.num_tokens) == (theirs.lines, theirs.num_tokens)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)
        assert ours.padding_share == 0.0 < theirs.padding_share
    assert packed.epochs[-1].valid_loss == pytest.approx(plain.epochs[-1].valid_loss, rel=1e-4)
    by_line = {int(row["line"]): float(row["loss"]) for row in plain_rows}
    assert sorted(int(row["line"]) for row in packed_rows) == sorted(by_line) == list(range(1, 19))
    for row in packed_rows:
        assert float(row["loss"]) == pytest.approx(by_line[int(row["line"])], rel=1e-3)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_packed_run_resumes_bit_for_bit(tmp_path, stop, monkeypatch):
    torch.set_num_threads(1)
    few_tokens(monkeypatch, 90)
    folder, source = build("llama", tmp_path / "llama"), rows()
    spec = replace(spec_for(source, batch_size=6, epochs=2), packing=True)
    straight, whole = load_model(folder), Recorder()
    Trainer(straight, spec, source, None, whole, tmp_path / "straight").run()
    first, second, model = Recorder(stop_after=stop), Recorder(), load_model(folder)
    Trainer(load_model(folder), spec, source, None, first, tmp_path / "torn").run()
    Trainer(model, spec, source, None, second, tmp_path / "torn").run()
    assert [(s.step, s.loss) for s in first.steps + second.steps] == [(s.step, s.loss) for s in whole.steps]
    for ours, theirs in zip(model.adapter_parameters(ADAPTER_NAME), straight.adapter_parameters(ADAPTER_NAME), strict=True):
        assert torch.equal(ours, theirs)


def test_packed_forwards_hold_each_row_once_and_are_nearly_full(monkeypatch):
    few_tokens(monkeypatch, 100)
    source = rows(60)
    spec = replace(spec_for(source), packing=True)
    facts = None
    groups = step_forwards(spec, range(60), source, facts)  # type: ignore[arg-type]
    assert sorted(row for group in groups for row in group) == list(range(60))
    tokens = [sum(source.examples[row].num_tokens for row in group) for group in groups]
    assert max(tokens) <= 100
    assert len(groups) <= math.ceil(1.05 * source.num_tokens / 100)
    assert groups == step_forwards(spec, range(60), source, facts)  # type: ignore[arg-type]


def test_without_packing_forwards_are_cut_as_before(folder):
    source, facts = rows(), load_model(folder).facts
    room = Room(activation_bytes=90 * facts.num_layers * facts.hidden_size * 160)
    spec = spec_for(source)
    assert step_forwards(spec, range(18), source, facts, room) == micro_batches(range(18), source.examples, facts, room)


def test_the_forecasts_trial_packs_as_the_run_will(tmp_path):
    torch.set_num_threads(1)
    source, model = rows(), load_model(build("llama", tmp_path / "llama"))
    spec = replace(spec_for(source, batch_size=6, epochs=1), packing=True)
    plan = plan_run(spec, source, None, model.facts, shape_of(read_config(model.folder), model.facts))
    assert [len(step.micros) for step in plan.steps] == [1, 1, 1]
    read: list[bool] = []
    whole = model.losses_at

    def watched(*arguments):
        if torch.is_grad_enabled():
            read.append(model.flat)
        return whole(*arguments)

    model.losses_at = watched  # type: ignore[method-assign]
    folder = tmp_path / "trial"
    folder.mkdir()
    measured = dry_run(model, plan, source, None, folder, seconds=0.5)
    assert measured.steps
    assert read
    assert all(read)
    assert not model.flat
