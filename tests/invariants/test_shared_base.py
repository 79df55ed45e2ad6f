"""Runs that share one base end bit for bit as each does alone, whatever the order of their turns (LoRA, the embedded model)."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from luthier.core.errors import JobFailure
from luthier.core.specs import ObjectiveKind, TrainingSpec
from luthier.models.decoder import DecoderModel
from luthier.models.language_model import LanguageModel
from luthier.preprocessing.stage import Prepared
from luthier.trace.events import StepSkipped
from luthier.training.loop import Trainer, TrainResult
from tests.support.mini import MINI, load_mini
from tests.support.preference_rows import pair_spec, pairs, parent_adapter
from tests.support.rows_of_runs import rows_of_runs
from tests.support.trainable_model import Recorder, TrainableModel, spec_for

NAMES = ("one", "two", "three")


@pytest.fixture(scope="module")
def rows() -> dict[str, Prepared]:
    return rows_of_runs(NAMES)


def spec_of(name: str, rows: dict[str, Prepared]) -> TrainingSpec:
    """Another rank, rate, batch size and seed for each; one learns under noise, one its prompts too."""
    at = NAMES.index(name)
    spec = spec_for(rows[name], epochs=2, batch_size=(3, 2, 1)[at], rate=(1e-3, 3e-3, 1e-2)[at])
    own = {"neftune_alpha": (0.0, 5.0, 0.0)[at], "prompt_loss_weight": (0.0, 0.0, 0.1)[at]}
    return replace(spec, lora_rank=(4, 16, 8)[at], lora_alpha=16.0, seed=at, **own)


def transformers_mini() -> LanguageModel:
    from luthier.models.facts import read_facts
    from luthier.models.transformers_model import TransformersModel

    return TransformersModel(MINI, read_facts(MINI), device="cpu", dtype=torch.float32)


class Noisy(Recorder):
    """Draws from torch's generator at each step and keeps what it got: a run's random numbers are its own."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__(stop_after)
        self.drawn: list[float] = []

    def step_done(self, report):
        super().step_done(report)
        self.drawn.append(float(torch.rand(())))


def weights(model: LanguageModel, name: str) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.adapter_parameters(name)]


def alone(load, name: str, rows: dict[str, Prepared], folder: Path) -> tuple[Noisy, list[torch.Tensor], TrainResult]:
    model, hooks = load(), Noisy()
    result = Trainer(model, spec_of(name, rows), rows[name], rows["one"], hooks, folder / f"{name}-alone", adapter=name).run()
    return hooks, weights(model, name), result


def drive(trainers: dict[str, Trainer], draw: random.Random) -> dict[str, TrainResult | JobFailure]:
    """Turns in a random order; ends of all runs."""
    turns = {name: trainer.turns() for name, trainer in trainers.items()}
    ends: dict[str, TrainResult | JobFailure] = {}
    while turns:
        name = draw.choice(sorted(turns))
        try:
            beside = next(turns[name])
            if beside is not None:
                beside()
        except StopIteration as end:
            ends[name] = end.value
        except JobFailure as failure:
            ends[name] = failure
        if name in ends:
            del turns[name]
    return ends


@pytest.mark.parametrize("load", [load_mini, transformers_mini], ids=["decoder", "transformers"])
@pytest.mark.parametrize("order", [1, 2])
def test_members_of_a_group_end_as_alone(tmp_path, rows, load, order):
    model = load()
    hooks = {name: Noisy() for name in NAMES}
    trainers = {
        name: Trainer(model, spec_of(name, rows), rows[name], rows["one"], hooks[name], tmp_path / name, adapter=name, resume_share=0.3)
        for name in NAMES
    }
    ends = drive(trainers, random.Random(order))
    for name in NAMES:
        reference, wanted, result = alone(load, name, rows, tmp_path)
        assert hooks[name].numbers() == reference.numbers()
        assert hooks[name].drawn == reference.drawn
        assert ends[name] == result
        assert all(torch.equal(a, b) for a, b in zip(weights(model, name), wanted, strict=True))


@pytest.mark.parametrize("order", [1, 2])
def test_members_that_learn_from_pairs_end_as_alone(tmp_path, order):
    """Each by another loss, one from a tuned model, one that died while its reference was measured: the pass takes turns too."""
    train = {name: pairs(12, seed=at) for at, name in enumerate(NAMES)}
    kinds = dict(zip(NAMES, (ObjectiveKind.DPO, ObjectiveKind.ORPO, ObjectiveKind.KTO), strict=True))
    specs = {name: replace(pair_spec(train[name], rate=0.1, objective=kinds[name]), seed=at) for at, name in enumerate(NAMES)}
    parents = {"one": None, "two": None, "three": parent_adapter(tmp_path / "parent")}
    model, hooks = TrainableModel(), {name: Noisy() for name in NAMES}

    def trainer(model: LanguageModel, name: str, hooks: Recorder, folder: Path) -> Trainer:
        return Trainer(model, specs[name], train[name], None, hooks, folder, parent_adapter=parents[name], adapter=name)

    assert trainer(TrainableModel(), "three", Recorder(stop_after=0), tmp_path / "three").run().stopped
    ends = drive({name: trainer(model, name, hooks[name], tmp_path / name) for name in NAMES}, random.Random(order))
    for name in NAMES:
        other, reference = TrainableModel(), Noisy()
        assert ends[name] == trainer(other, name, reference, tmp_path / f"{name}-alone").run()
        assert hooks[name].numbers() == reference.numbers()
        assert hooks[name].drawn == reference.drawn
        assert all(torch.equal(a, b) for a, b in zip(weights(model, name), weights(other, name), strict=True))
        assert bool(hooks[name].references) == kinds[name].has_reference


def test_one_that_fails_and_one_that_stops_leave_no_trace_in_the_third(tmp_path, rows):
    model = load_mini()

    class Failing(Noisy):
        def step_done(self, report):
            super().step_done(report)
            if report.step == 3:
                raise JobFailure("The loss stopped being a finite number.", code="nan_loss")

    hooks = {"one": Noisy(), "two": Failing(), "three": Noisy(stop_after=2)}
    trainers = {n: Trainer(model, spec_of(n, rows), rows[n], rows["one"], hooks[n], tmp_path / n, adapter=n) for n in NAMES}
    ends = drive(trainers, random.Random(3))
    reference, wanted, _ = alone(load_mini, "one", rows, tmp_path)
    assert hooks["one"].numbers() == reference.numbers()
    assert all(torch.equal(a, b) for a, b in zip(weights(model, "one"), wanted, strict=True))
    assert isinstance(ends["two"], JobFailure)
    third = ends["three"]
    assert isinstance(third, TrainResult)
    assert third.stopped

    # The one that stopped goes on beside another, and ends as if it had never stopped nor shared anything.
    model.remove_adapter("three")
    again = Noisy()
    others = {"three": again, "late": Noisy()}
    late = Trainer(model, spec_of("two", rows), rows["two"], None, others["late"], tmp_path / "late", adapter="late")
    more = Trainer(model, spec_of("three", rows), rows["three"], rows["one"], again, tmp_path / "three", adapter="three")
    drive({"three": more, "late": late}, random.Random(4))
    straight, wanted, _ = alone(load_mini, "three", rows, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(weights(model, "three"), wanted, strict=True))
    assert [s.loss for s in again.steps] == [s.loss for s in straight.steps][2:]
    assert again.drawn[1:] == straight.drawn[3:]


def test_a_member_whose_loss_is_no_number_skips_and_fails_by_itself(tmp_path, rows, monkeypatch):
    """Its steps are left out and then it fails; the gradients and weights of the others are as if it had never been there."""
    model, poison, forward = load_mini(), {"on": False}, DecoderModel.losses_at

    def poisoned(self, *arguments):
        loss, hits, losses_N = forward(self, *arguments)
        return (loss * float("nan") if poison["on"] and loss.requires_grad else loss), hits, losses_N

    monkeypatch.setattr(DecoderModel, "losses_at", poisoned)

    class Poisoned(Trainer):
        """Only its own turns give losses that are no numbers."""

        def turns(self, *, joins=False):
            work = super().turns(joins=joins)
            while True:
                poison["on"] = True
                try:
                    beside = next(work)
                except StopIteration as end:
                    return end.value
                finally:
                    poison["on"] = False
                yield beside

    hooks = {name: Noisy() for name in NAMES}
    kinds = {"one": Trainer, "two": Poisoned, "three": Trainer}
    specs = {name: replace(spec_of(name, rows), max_skipped_steps=2) for name in NAMES}
    trainers = {n: kinds[n](model, specs[n], rows[n], rows["one"], hooks[n], tmp_path / n, adapter=n) for n in NAMES}
    ends = drive(trainers, random.Random(5))
    failed = ends["two"]
    assert isinstance(failed, JobFailure)
    assert failed.code == "nan_loss"
    assert "at step 3 of" in failed.message
    assert [(type(n), n.step) for n in hooks["two"].news] == [(StepSkipped, 1), (StepSkipped, 2)]
    for name in ("one", "three"):
        reference, wanted, result = alone(load_mini, name, rows, tmp_path)
        assert hooks[name].numbers() == reference.numbers()
        assert hooks[name].drawn == reference.drawn
        assert ends[name] == result
        assert all(torch.equal(a, b) for a, b in zip(weights(model, name), wanted, strict=True))
