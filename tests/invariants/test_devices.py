"""A run on several devices learns what it learns on one: losses, weights, a resume bit for bit, and what becomes of a device that fails.

Here every device is the CPU, so that the copies, threads, sums and weights that go to and fro are those of several GPUs; a GPU's own
part in it is in ``tests/gpu``.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.core.errors import JobFailure
from luthier.core.row_losses import read_epoch
from luthier.core.specs import LoraKind, ObjectiveKind, OptimizerName, TrainingSpec, TuningMethod
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared
from luthier.trace.events import StepSkipped
from luthier.training.attach import ADAPTER_NAME
from luthier.training.loop import Trainer
from luthier.training.replicas import Replicas
from luthier.worker.floor import Seat, SharedFloor
from tests.support.four_bits import needs_bitsandbytes
from tests.support.preference_rows import pair_spec, pairs, parent_adapter
from tests.support.preference_runs import Crash, Crashing, figures, formality
from tests.support.tiny_models import build
from tests.support.token_rows import spoken_rows, uneven_rows
from tests.support.trainable_model import PoisonedModel, Recorder, TrainableModel, prepared, spec_for

METHODS = pytest.mark.parametrize("method", list(TuningMethod))
CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"lora_kind": LoraKind.RSLORA},
    "dora": {"lora_kind": LoraKind.DORA},
    "packed": {"packing": True},
    "noise": {"neftune_alpha": 5.0},
    "prompts": {"prompt_loss_weight": 0.2},
    "made again": {"gradient_checkpointing": True},
    "attention": {"targets": ("q_proj", "k_proj", "v_proj", "o_proj")},
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def on(spec: TrainingSpec, num_devices: int) -> TrainingSpec:
    return replace(spec, more_devices=("cpu",) * (num_devices - 1))


def run(
    folder: Path,
    make: Callable[[], LanguageModel],
    spec: TrainingSpec,
    train: Prepared,
    valid: Prepared | None = None,
    hooks: Recorder | None = None,
    **options: Any,
) -> tuple[LanguageModel, Recorder]:
    """A run on as many devices as the spec has."""
    model, hooks = make(), hooks or Recorder()
    folder.mkdir(exist_ok=True)
    copies = [make() for _ in spec.more_devices]
    Trainer(model, spec, train, valid, hooks, folder / "state", replicas=copies, run_dir=folder, **options).run()
    return model, hooks


def weights(model: LanguageModel, spec: TrainingSpec) -> list[torch.Tensor]:
    parameters = model.adapter_parameters(ADAPTER_NAME) if spec.method is TuningMethod.LORA else model.all_parameters()
    return [parameter.detach().clone() for parameter in parameters]


def same_as_one(tmp_path: Path, make: Callable[[], LanguageModel], spec: TrainingSpec, train: Prepared, valid=None, **more: Any) -> None:
    """Losses and weights are equal up to rounding: it was seen to be 7e-7 of a loss, and 1.4e-5 of what a weight learned."""
    (one, alone), *others = (run(tmp_path / f"on {number}", make, on(spec, number), train, valid, **more) for number in (1, 2, 3))
    assert len(alone.steps) == spec.total_steps >= 10
    full = spec.method is TuningMethod.FULL
    start = make().all_parameters() if full else [torch.zeros(())] * len(weights(one, spec))
    learned = [theirs - before for theirs, before in zip(weights(one, spec), start, strict=True)]
    for model, hooks in others:
        assert hooks.base == alone.base
        for ours, theirs in zip(hooks.steps, alone.steps, strict=True):
            assert (ours.lines, ours.num_tokens, ours.tokens) == (theirs.lines, theirs.num_tokens, theirs.tokens)
            assert ours.loss == pytest.approx(theirs.loss, rel=5e-6)
            assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-5)
        assert hooks.epochs[-1].train_loss == pytest.approx(alone.epochs[-1].train_loss, rel=5e-6)
        for ours, theirs, change in zip(weights(model, spec), weights(one, spec), learned, strict=True):
            assert float((ours - theirs).norm()) <= 2e-4 * float(change.norm())


@METHODS
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_one_device_is_two_is_three(tmp_path, family, method):
    folder, source = build(family, tmp_path / "m"), uneven_rows()
    spec = spec_for(source, method=method, batch_size=6, epochs=4, rate=1e-3)
    same_as_one(tmp_path, lambda: load_model(folder), spec, source, uneven_rows(5))


@pytest.mark.parametrize("changes", list(CHANGES.values())[1:], ids=list(CHANGES)[1:])
def test_whatever_a_step_does(tmp_path, changes):
    folder, source = build("llama", tmp_path / "m"), spoken_rows()
    spec = replace(spec_for(source, batch_size=6, epochs=4, rate=1e-3), **changes)
    same_as_one(tmp_path, lambda: load_model(folder), spec, source)


def test_in_mixed_precision_the_copies_round_their_weights_anew_in_each_step(tmp_path):
    folder, source = build("llama", tmp_path / "m"), uneven_rows()
    spec = replace(spec_for(source, method=TuningMethod.FULL, batch_size=6, epochs=4, rate=3e-3), precision="mixed")
    (_, alone), (_, both) = (run(tmp_path / f"on {n}", lambda: load_model(folder), on(spec, n), source) for n in (1, 2))
    assert alone.epochs[-1].train_loss < 0.95 * alone.epochs[0].train_loss
    assert [s.loss for s in both.steps] == pytest.approx([s.loss for s in alone.steps], rel=0.01)


@needs_bitsandbytes
def test_over_a_base_in_4_bits(tmp_path):
    folder, source = build("llama", tmp_path / "m"), uneven_rows()
    spec = replace(spec_for(source, batch_size=6, epochs=4, rate=1e-3), quantization="nf4")
    same_as_one(tmp_path, lambda: load_model(folder, quantization="nf4"), spec, source)


@METHODS
def test_through_transformers(tmp_path, method):
    folder, source = build("gpt2", tmp_path / "m"), uneven_rows()
    spec = spec_for(source, method=method, batch_size=6, epochs=4, rate=1e-3)
    # A key's bias changes no attention: its gradient is rounding alone, which AdamW would make steps of full size from.
    same_as_one(tmp_path, lambda: load_model(folder), replace(spec, optimizer=OptimizerName.SGD), source)


@pytest.mark.parametrize(
    ("method", "objective"),
    [
        (TuningMethod.LORA, ObjectiveKind.DPO),
        (TuningMethod.FULL, ObjectiveKind.DPO),
        (TuningMethod.LORA, ObjectiveKind.ORPO),
        (TuningMethod.LORA, ObjectiveKind.KTO),
    ],
)
def test_pairs_stay_together_and_teach_the_same(tmp_path, method, objective):
    folder, source = build("llama", tmp_path / "m"), formality()
    spec = pair_spec(source, method=method, batch_size=4, epochs=4, rate=1e-3, objective=objective)
    same_as_one(tmp_path, lambda: load_model(folder), spec, source, formality("valid.jsonl", 3))
    ours, theirs = (run(tmp_path / f"again {n}", lambda: load_model(folder), on(spec, n), source)[1] for n in (1, 2))
    assert figures(ours.steps[-1]) == pytest.approx(figures(theirs.steps[-1]), rel=1e-3, abs=1e-4)


def test_tuning_goes_on_from_a_saved_adapter(tmp_path):
    source = pairs()
    same_as_one(tmp_path, TrainableModel, pair_spec(source), source, parent_adapter=parent_adapter(tmp_path / "parent"))


@METHODS
def test_a_run_on_two_devices_has_the_same_bits_each_time_and_resumes_with_them(tmp_path, method):
    folder, source, valid = build("llama", tmp_path / "m"), uneven_rows(), uneven_rows(5)
    spec = on(spec_for(source, method=method, batch_size=6, epochs=4, rate=1e-3), 2)
    (first, told), (second, again) = (run(tmp_path / name, lambda: load_model(folder), spec, source, valid) for name in ("a", "b"))
    assert again.numbers() == told.numbers()
    parts = []
    for hooks in (Recorder(stop_after=4), Crashing(step=8), Recorder()):
        parts.append(hooks)
        torch.rand(3)
        try:
            third, _ = run(tmp_path / "torn", lambda: load_model(folder), spec, source, valid, hooks)
        except Crash:
            continue
    seen = {report.step: report.loss for hooks in parts for report in hooks.steps}
    assert seen == {report.step: report.loss for report in told.steps}
    assert list(read_epoch(tmp_path / "torn", 4)) == list(read_epoch(tmp_path / "a", 4))
    for ours, theirs, torn in zip(weights(first, spec), weights(second, spec), weights(third, spec), strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(ours, torn)


def test_it_takes_its_turns_beside_another_run_on_the_same_base(tmp_path):
    folder, source = build("llama", tmp_path / "m"), uneven_rows()
    spec = on(spec_for(source, batch_size=6, epochs=2, rate=1e-3), 2)
    specs = {"both": spec, "plain": replace(spec, more_devices=(), seed=5)}
    floor, model, told = SharedFloor(), load_model(folder), {name: Recorder() for name in specs}

    def train(name: str, copies: Sequence[LanguageModel]) -> None:
        seat = Seat(floor, name=name, project="p", weight=1.0, company=lambda: 1)
        trainer = Trainer(model, specs[name], source, None, told[name], tmp_path / name, adapter=name, replicas=copies)
        seat.train(trainer, name)

    members = [threading.Thread(target=train, args=args) for args in (("both", [load_model(folder)]), ("plain", []))]
    computing = threading.Thread(target=floor.work)
    for thread in (computing, *members):
        thread.start()
    for member in members:
        member.join()
    floor.close()
    computing.join()
    for name in specs:
        _, alone = run(tmp_path / f"{name} alone", lambda: load_model(folder), specs[name], source)
        assert told[name].numbers() == alone.numbers()


class Watched(TrainableModel):
    """Notes the rows of each forward that learns, and in which thread."""

    def __init__(self, seen: list[tuple[str, int]], fault: Exception | None = None, most_rows: int = 99) -> None:
        super().__init__()
        self.seen, self.fault, self.most_rows = seen, fault, most_rows

    def logits_at(self, ids_BT, lengths_B, rows_N, columns_N):
        if torch.is_grad_enabled():
            if self.fault is not None:
                raise self.fault
            if len(ids_BT) > self.most_rows:
                raise torch.OutOfMemoryError("too little")
            self.seen.append((threading.current_thread().name.partition("_")[0], len(ids_BT)))
        return super().logits_at(ids_BT, lengths_B, rows_N, columns_N)


def watch(tmp_path: Path, train: Prepared, spec: TrainingSpec, own: Watched, copies: Sequence[Watched]) -> Recorder:
    hooks = Recorder()
    Trainer(own, spec, train, None, hooks, tmp_path / "state", replicas=copies).run()
    return hooks


def test_a_step_with_one_row_is_one_devices_and_all_others_are_dealt(tmp_path):
    train, seen = prepared(9), []
    spec = on(spec_for(train, batch_size=4, epochs=1), 2)
    hooks = watch(tmp_path, train, spec, Watched(seen), [Watched(seen)])
    assert len(hooks.steps) == 3
    assert sorted(seen) == sorted([("MainThread", 2), ("replica", 2)] * 2 + [("MainThread", 1)])
    assert hooks.steps[-1].grad_norm > 0


def test_rows_are_dealt_once_each_with_their_pair_and_about_as_many_tokens(tmp_path):
    for source, each in ((uneven_rows(31), 1), (pairs(31), 2)):
        spec = on(spec_for(source), 3)
        dealt = Replicas([TrainableModel(), TrainableModel()], spec).deal(range(31 * each), source)
        assert sorted(row for rows in dealt for row in rows) == list(range(31 * each))
        assert all(rows == sorted(rows) for rows in dealt)
        assert all(rows[at + 1] == rows[at] + 1 for rows in dealt for at in range(0, len(rows), each) if each == 2)
        tokens = [sum(source.examples[row].num_tokens for row in rows) for rows in dealt]
        assert max(tokens) - min(tokens) <= each * max(example.num_tokens for example in source.examples)


def test_an_error_on_a_further_device_is_the_steps_own(tmp_path):
    train, seen = prepared(12), []
    spec = on(spec_for(train, batch_size=4, epochs=1), 3)
    with pytest.raises(ValueError, match="the third"):
        watch(tmp_path, train, spec, Watched(seen), [Watched(seen), Watched(seen, ValueError("the third"))])
    with pytest.raises(ValueError, match="the first"):
        watch(tmp_path, train, spec, Watched(seen, ValueError("the first")), [Watched(seen, ValueError("no")), Watched(seen)])


@pytest.mark.parametrize("poor", [0, 1])
def test_too_little_memory_on_any_device_cuts_the_step_smaller_on_all(tmp_path, poor):
    train = prepared(12)
    spec = on(spec_for(train, batch_size=6, epochs=2), 2)
    rich = watch(tmp_path / "rich", train, spec, Watched([]), [Watched([])])
    seen: list[tuple[str, int]] = []
    models = [Watched(seen, most_rows=1 if at == poor else 99) for at in range(2)]
    hooks = watch(tmp_path / "poor", train, spec, models[0], models[1:])
    assert [s.loss for s in hooks.steps] == pytest.approx([s.loss for s in rich.steps], rel=1e-5)
    assert hooks.notices[0].message.startswith("The device's memory did not hold step 1 as it was cut: from now on its rows lie in ")
    with pytest.raises(JobFailure, match="does not fit into the device's memory"):
        watch(tmp_path / "none", train, spec, Watched([]), [Watched([], most_rows=0)])


def test_a_step_that_is_not_finite_on_one_device_is_skipped_on_all(tmp_path):
    train = prepared(12)
    spec = on(spec_for(train, batch_size=4, epochs=2), 2)
    row = train.examples[3].rendered.ids_T
    hooks = Recorder()
    Trainer(PoisonedModel(row), spec, train, None, hooks, tmp_path / "state", replicas=[PoisonedModel(row)]).run()
    alone = Recorder()
    Trainer(PoisonedModel(row), on(spec, 1), train, None, alone, tmp_path / "alone").run()
    skipped, known = ([news for news in part.news if isinstance(news, StepSkipped)] for part in (hooks, alone))
    assert [(news.step, news.what) for news in skipped] == [(news.step, news.what) for news in known]
    assert len(skipped) == 2
    assert all(4 in news.lines and len(news.lines) == 2 for news in skipped), "it is one device's rows that are named"
    assert [s.loss for s in hooks.steps] == pytest.approx([s.loss for s in alone.steps], rel=1e-5)


def test_another_number_of_devices_is_another_run():
    spec = spec_for(prepared())
    assert len({on(spec, number).identity() for number in (1, 2, 3)}) == 3
    assert on(spec, 1) == spec
