"""Early stopping and the choice of the checkpoint that becomes the model, by held-out loss."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.core.specs import Keep, TrainingSpec, TuningMethod
from luthier.preprocessing.stage import Prepared
from luthier.trace.events import ModelChosen
from luthier.trace.projections import chosen_text
from luthier.training.attach import ADAPTER_NAME
from luthier.training.best import BestWeights
from luthier.training.evaluate import measure
from luthier.training.loop import Trainer, TrainResult
from luthier.training.progress import Progress, progress_from_dict
from tests.support.trainable_model import Recorder, TrainableModel, prepared, spec_for


def held_out(train: Prepared) -> Prepared:
    """The training rows, nine of them with another last token: their loss falls at first, and rises when the model grows sure."""
    examples = []
    for at, example in enumerate(train.examples):
        ids_T = example.rendered.ids_T.copy()
        if at < 9:
            ids_T[-1] = ids_T[-1] % 19 + 1
        examples.append(replace(example, rendered=replace(example.rendered, ids_T=ids_T)))
    return replace(train, examples=tuple(examples))


class Weighing(Recorder):
    """Keeps the weights that each checkpoint was made of."""

    def __init__(self, model: TrainableModel, method: TuningMethod, stop_after: int | None = None) -> None:
        super().__init__(stop_after)
        self.model, self.method = model, method
        self.saved: list[tuple[int, list[torch.Tensor]]] = []

    def save_checkpoint(self, epoch: int, step: int, metrics: dict[str, float]) -> None:
        super().save_checkpoint(epoch, step, metrics)
        self.saved.append((step, weights(self.model, self.method)))


def choice(hooks: Recorder) -> ModelChosen:
    """The one that was told."""
    (chosen,) = hooks.news
    assert isinstance(chosen, ModelChosen)
    return chosen


def losses_of(hooks: Recorder) -> list[float]:
    """Held out, epoch by epoch."""
    return [e.valid_loss for e in hooks.epochs if e.valid_loss is not None]


def weights(model: TrainableModel, method: TuningMethod) -> list[torch.Tensor]:
    """A copy of what learned."""
    parameters = model.adapter_parameters(ADAPTER_NAME) if method is TuningMethod.LORA else model.all_parameters()
    return [p.detach().clone() for p in parameters]


def same(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    """Bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def run(folder: Path, spec: TrainingSpec, stop_after: int | None = None) -> tuple[TrainableModel, Weighing, TrainResult]:
    """Train with that held-out set."""
    train, model = prepared(), TrainableModel()
    hooks = Weighing(model, spec.method, stop_after)
    return model, hooks, Trainer(model, spec, train, held_out(train), hooks, folder).run()


def spec_of(method: TuningMethod = TuningMethod.LORA, epochs: int = 8, **fields: Any) -> TrainingSpec:
    """Steps long enough for a best epoch in the middle."""
    return replace(spec_for(prepared(), method=method, epochs=epochs, rate=0.8), **fields)


@pytest.mark.parametrize("method", list(TuningMethod))
def test_the_best_epochs_weights_become_the_model(tmp_path, method):
    model, hooks, result = run(tmp_path, spec_of(method, keep=Keep.BEST))
    losses = losses_of(hooks)
    best = losses.index(min(losses)) + 1
    assert 1 < best < 8, "the test needs a minimum in the middle"
    steps = [step for step, _ in hooks.saved]
    assert steps == [6, 12, 18, 24, 30, 36, 42, 48, 6 * best]
    assert same(hooks.saved[-1][1], hooks.saved[best - 1][1])
    assert same(weights(model, method), hooks.saved[best - 1][1])
    assert hooks.checkpoints[-1] == hooks.checkpoints[best - 1]
    assert result.metrics == hooks.checkpoints[-1][2]
    assert (result.steps, result.epoch) == (48, 9)
    chosen = choice(hooks)
    assert (chosen.step, chosen.epoch, chosen.last_step, chosen.last_epoch) == (6 * best, best, 48, 8)
    with model.use_adapter(ADAPTER_NAME if method is TuningMethod.LORA else None):
        assert measure(model, held_out(prepared())).loss == chosen.best_loss == min(losses)


@pytest.mark.parametrize("patience", [1, 2])
def test_training_ends_when_nothing_has_become_better_for_so_long(tmp_path, patience):
    _, free, _ = run(tmp_path / "free", spec_of(keep=Keep.BEST))
    losses = losses_of(free)
    _, hooks, result = run(tmp_path / "early", spec_of(keep=Keep.BEST, patience=patience))
    ended = next(at + 1 for at in range(8) if at - losses.index(min(losses[: at + 1])) >= patience)
    assert ended < 8
    assert [e.epoch for e in hooks.epochs] == list(range(1, ended + 1))
    assert (result.steps, result.stopped) == (6 * ended, False)
    assert losses_of(hooks) == losses[:ended]
    chosen = choice(hooks)
    assert (chosen.epoch, chosen.last_epoch, chosen.n_epochs) == (ended - patience, ended, 8)


def test_a_least_difference_makes_small_gains_none(tmp_path):
    _, hooks, _ = run(tmp_path, spec_of(keep=Keep.BEST, patience=1, min_delta=100.0))
    assert len(hooks.epochs) == 2
    assert choice(hooks).step == 6


def test_the_last_epoch_is_kept_when_asked_for(tmp_path):
    model, hooks, _ = run(tmp_path, spec_of(keep=Keep.LAST, patience=1))
    chosen = choice(hooks)
    assert chosen.step == chosen.last_step == hooks.saved[-1][0]
    assert chosen.best_epoch == chosen.last_epoch - 1
    assert same(weights(model, TuningMethod.LORA), hooks.saved[-1][1])


def test_without_the_options_nothing_is_judged(tmp_path):
    _, hooks, _ = run(tmp_path, spec_of())
    assert hooks.news == []
    assert [step for step, _ in hooks.saved] == [6, 12, 18, 24, 30, 36, 42, 48]


@pytest.mark.parametrize("method", list(TuningMethod))
@pytest.mark.parametrize("stop", [1, 11, 12, 13, 20, 23])
def test_a_run_that_was_interrupted_chooses_the_same_weights(tmp_path, method, stop):
    spec = spec_of(method, keep=Keep.BEST, patience=2)
    straight, whole, end = run(tmp_path / "straight", spec)
    _, first, _ = run(tmp_path / "torn", spec, stop_after=stop)
    model, second, result = run(tmp_path / "torn", spec)
    assert result == end
    assert same(weights(model, method), weights(straight, method))
    assert first.checkpoints + second.checkpoints == whole.checkpoints
    assert second.news == whole.news
    # And once more from behind the end: nothing is trained, the choice and its weights are there again.
    again, third, repeated = run(tmp_path / "torn", spec)
    assert (third.steps, repeated) == ([], end)
    assert third.news == whole.news
    assert same(weights(again, method), weights(straight, method))
    assert [step for step, _ in third.saved] == [choice(whole).step]


def test_a_loss_that_is_no_number_is_never_the_best():
    best, parameters = BestWeights(spec_of(keep=Keep.BEST, epochs=2)), [torch.nn.Parameter(torch.ones(2))]
    progress = best.judged(Progress(step=6), math.nan, parameters)
    assert (progress.best_epoch, progress.ended) == (0, False)
    progress = best.judged(replace(progress, epoch=2, step=12), math.inf, parameters)
    assert progress.ended
    chosen = best.choice(progress, 2)
    assert chosen is not None
    assert (chosen.step, chosen.best_loss) == (12, None)
    assert "No held-out loss was a finite number" in chosen_text(chosen)


def test_progress_of_an_older_version_is_read():
    old = {"step": 3, "epoch": 1, "batch_index": 3, "epoch_parts": [], "metrics": {"step": 3.0}}
    assert progress_from_dict(old) == Progress(step=3, batch_index=3, metrics={"step": 3.0})


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"step": 12, "epoch": 2, "last_step": 24, "last_epoch": 4},
            "Training ended after epoch 4 of 8: for 2 epochs no held-out loss was lower. The held-out loss was lowest after epoch 2 "
            "(1.2500): the weights of step 12 become the model, not those of step 24",
        ),
        (
            {"step": 48, "epoch": 8, "last_step": 48, "last_epoch": 8, "best_epoch": 8},
            "The held-out loss was lowest after epoch 8 (1.2500): the last checkpoint (step 48) becomes the model",
        ),
        (
            {"step": 18, "epoch": 3, "last_step": 18, "last_epoch": 3, "min_delta": 0.1, "keep": "last"},
            "Training ended after epoch 3 of 8: for 1 epoch no held-out loss was at least 0.1 lower. The held-out loss was lowest after "
            "epoch 2 (1.2500): as asked, the last checkpoint all the same (step 18) becomes the model",
        ),
    ],
)
def test_the_event_says_what_was_chosen_and_why(fields, text):
    plain = {"n_epochs": 8, "best_epoch": 2, "best_loss": 1.25, "patience": 2, "min_delta": 0.0, "keep": "best"}
    assert chosen_text(ModelChosen(**{**plain, **fields})) == text
