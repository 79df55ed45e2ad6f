"""Steps of several runs done at once equal those done alone: losses, hits, gradients, and the runs that follow from them."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from luthier.core.errors import JobFailure
from luthier.models.adapter_form import AdapterForm
from luthier.models.language_model import AdapterRows, LanguageModel
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared
from luthier.trace.events import StepSkipped
from luthier.training import together
from luthier.training.loop import Trainer
from luthier.training.together import may_join
from luthier.worker.floor import Seat, SharedFloor
from tests.support.mini import MINI, load_mini
from tests.support.one_floor import on_one_floor
from tests.support.rows_of_runs import rows_of_runs
from tests.support.tiny_models import build
from tests.support.trainable_model import Recorder, spec_for

FORMS = (
    ("a", 4, AdapterForm()),
    ("b", 16, AdapterForm(targets=("layers.q_proj", "layers.down_proj"))),
    ("c", 8, AdapterForm(rslora=True, targets=("layers.q_proj", "layers.v_proj"))),
)
"""Name, rank and form: other ranks, other layers, another scale."""


def rows_of(name: str, lengths: list[int], seed: int) -> AdapterRows:
    draw = torch.Generator().manual_seed(seed)
    ids_BT = torch.randint(6, 8192, (len(lengths), max(lengths)), generator=draw)
    chosen = [(row, column) for row, length in enumerate(lengths) for column in range(1, length, 2)]
    rows_N, columns_N = (torch.tensor(side) for side in zip(*chosen, strict=True))
    weights_N = torch.rand(len(chosen), generator=draw)
    return AdapterRows(
        adapter=name,
        ids_BT=ids_BT,
        lengths_B=torch.tensor(lengths),
        rows_N=rows_N,
        columns_N=columns_N - 1,
        targets_N=ids_BT[rows_N, columns_N],
        weights_N=weights_N,
    )


def learned_alone(model: LanguageModel, parts: list[AdapterRows]) -> tuple[list[tuple[torch.Tensor, ...]], list[list[torch.Tensor]]]:
    """What ``losses_at`` finds of each adapter's rows by themselves, and the gradients; none is left in the model."""
    alone, gradients = [], []
    for part in parts:
        parameters = model.adapter_parameters(part.adapter)
        with model.use_adapter(part.adapter):
            found = model.losses_at(part.ids_BT, part.lengths_B, part.rows_N, part.columns_N, part.targets_N, part.weights_N)
        found[0].backward()
        alone.append(found)
        gradients.append([p.grad.clone() for p in parameters if p.grad is not None])
        for parameter in parameters:
            parameter.grad = None
    return alone, gradients


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "smollm3"])
def test_losses_and_gradients_are_those_of_each_alone(tmp_path, family):
    model = load_model(build(family, tmp_path / "m"), dtype=torch.float64)
    model.flat = True
    for number, (name, rank, form) in enumerate(FORMS):
        model.add_adapter(name, rank=rank, alpha=8.0, seed=number, form=form)
        for at, parameter in enumerate(model.adapter_parameters(name)):
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(at))
            parameter.requires_grad_(True)
    parts = [rows_of("a", [7, 30, 2], 1), rows_of("b", [19], 2), rows_of("c", [5, 5, 11, 40], 3)]
    alone, gradients = learned_alone(model, parts)
    loss, hits_P, losses_P = model.losses_together(parts)
    loss.backward()
    torch.testing.assert_close(loss, sum(found[0] for found in alone), rtol=1e-6, atol=1e-6)
    assert torch.equal(hits_P, torch.cat([found[1] for found in alone]))
    torch.testing.assert_close(losses_P, torch.cat([found[2] for found in alone]), rtol=1e-5, atol=1e-6)
    for part, wanted in zip(parts, gradients, strict=True):
        for ours, theirs in zip(model.adapter_parameters(part.adapter), wanted, strict=True):
            torch.testing.assert_close(ours.grad, theirs, rtol=1e-5, atol=1e-6)


def test_padded_rows_and_dora_do_not_join(tmp_path):
    model = load_model(build("llama", tmp_path / "m"))
    model.add_adapter("a", rank=4, alpha=8.0, seed=1)
    assert not model.learns_together(["a"])
    model.flat = True
    assert model.learns_together(["a"])
    model.add_adapter("d", rank=4, alpha=8.0, seed=1, form=AdapterForm(dora=True))
    assert not model.learns_together(["a", "d"])


NAMES = ("one", "two", "three")


@pytest.fixture(scope="module")
def rows() -> dict[str, Prepared]:
    return rows_of_runs(NAMES)


def _spec(name, rows, **changes):
    at = NAMES.index(name)
    spec = spec_for(rows[name], epochs=3, batch_size=(3, 2, 2)[at], rate=(1e-3, 3e-3, 2e-3)[at])
    return replace(spec, lora_rank=(4, 16, 8)[at], lora_alpha=16.0, seed=at, **changes)


def _flat_mini():
    model = load_model(MINI)
    model.flat = True
    return model


def _alone(tmp_path, rows, name, **changes):
    hooks = Recorder()
    Trainer(_flat_mini(), _spec(name, rows, **changes), rows[name], rows["one"], hooks, tmp_path / f"{name}-alone", adapter=name).run()
    return hooks


class _Together:
    """Three runs on one floor; ``sizes`` has how many steps were done at once each time."""

    def __init__(self, tmp_path, rows, monkeypatch, **changes):
        self.sizes: list[int] = []
        self.failed: dict[str, JobFailure] = {}
        self.hooks = {name: Recorder() for name in NAMES}
        real = together._do

        def counted(steps):
            self.sizes.append(len(steps))
            real(steps)

        monkeypatch.setattr(together, "_do", counted)
        self.model, floor = _flat_mini(), SharedFloor()

        def run(name):
            own = _spec(name, rows, **changes.get(name, {}))
            trainer = Trainer(self.model, own, rows[name], rows["one"], self.hooks[name], tmp_path / name, adapter=name)
            try:
                Seat(floor, name=name, project=name, weight=1.0, company=lambda: 2).train(trainer, name)
            except JobFailure as failure:
                self.failed[name] = failure

        on_one_floor(floor, NAMES, run)


def test_runs_on_one_floor_learn_as_alone_and_at_once(tmp_path, rows, monkeypatch):
    found = _Together(tmp_path, rows, monkeypatch)
    assert max(found.sizes) == len(NAMES)
    assert not found.failed
    for name in NAMES:
        wanted, got = _alone(tmp_path, rows, name), found.hooks[name]
        assert len(got.steps) == len(wanted.steps)
        assert [s.loss for s in got.steps] == pytest.approx([s.loss for s in wanted.steps], rel=1e-3)
        assert [s.token_accuracy for s in got.steps] == pytest.approx([s.token_accuracy for s in wanted.steps], abs=0.05)
        assert got.epochs[-1].valid_loss == pytest.approx(wanted.epochs[-1].valid_loss, rel=1e-3)


def test_what_cannot_join_goes_alone_beside_those_that_do(tmp_path, rows, monkeypatch):
    found = _Together(tmp_path, rows, monkeypatch, two={"neftune_alpha": 5.0})
    assert set(found.sizes) == {2}
    for name, changes in (("one", {}), ("two", {"neftune_alpha": 5.0}), ("three", {})):
        wanted = _alone(tmp_path, rows, name, **changes)
        assert [s.loss for s in found.hooks[name].steps] == pytest.approx([s.loss for s in wanted.steps], rel=1e-3)


def test_a_run_on_several_devices_does_not_join(rows):
    model = load_mini()
    model.flat = True
    model.add_adapter("one", rank=2, alpha=4.0, seed=1)
    assert may_join(model, spec_for(rows["one"]), "one")
    assert not may_join(model, replace(spec_for(rows["one"]), more_devices=("cpu",)), "one")


def test_a_number_that_is_none_stays_in_its_own_run(tmp_path, rows, monkeypatch):
    found = _Together(tmp_path, rows, monkeypatch, two={"learning_rate": float("inf"), "max_skipped_steps": 100})
    assert any(isinstance(news, StepSkipped) for news in found.hooks["two"].news)
    assert set(found.failed) == {"two"}
    for name in ("one", "three"):
        wanted = _alone(tmp_path, rows, name)
        assert [s.loss for s in found.hooks[name].steps] == pytest.approx([s.loss for s in wanted.steps], rel=1e-3)


def test_an_error_at_once_leaves_each_step_to_its_run(tmp_path, rows, monkeypatch):
    def fails(_model, _parts):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr("luthier.models.decoder.DecoderModel.losses_together", fails)
    found = _Together(tmp_path, rows, monkeypatch)
    assert found.sizes
    for name in NAMES:
        wanted = _alone(tmp_path, rows, name)
        assert found.hooks[name].numbers() == wanted.numbers()


def test_runs_of_very_different_size_do_not_wait_for_each_other_s_room(monkeypatch):
    class Step:
        def __init__(self, model, num_tokens):
            self.model, self.num_tokens = model, num_tokens

    class Model:
        facts, device, flat = None, torch.device("cpu"), True

    monkeypatch.setattr(together, "most_tokens_of", lambda *_: 10_000)
    model, other = Model(), Model()
    offers = [Step(model, n) for n in (100, 9000, 4000, 4500, 300)] + [Step(other, 50)]
    offered: list[Any] = offers
    sets = [sorted(step.num_tokens for step in steps) for steps in together._fitting(offered)]
    assert sorted(sets) == [[50], [100, 300], [4000, 4500], [9000]]
