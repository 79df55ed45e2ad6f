"""Steps that go wrong: what is no finite number is skipped, told and bounded; a spike is told and can halve the rate."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from luthier.core.errors import JobFailure
from luthier.core.row_losses import read_epoch
from luthier.core.specs import ObjectiveKind, Schedule, TrainingSpec, TuningMethod
from luthier.preprocessing.stage import Prepared
from luthier.trace.events import LossSpiked, Notice, StepSkipped
from luthier.training.attach import ADAPTER_NAME
from luthier.training.guard import FEWEST, WINDOW, judged, spike_bound
from luthier.training.loop import Trainer, TrainResult
from luthier.training.progress import Progress
from luthier.training.schedule import learning_rate_at
from tests.support.trainable_model import PoisonedModel, Recorder, TrainableModel, prepared, spec_for

RECORDED = json.loads((Path(__file__).parents[2] / "golden" / "spike_losses.json").read_text(encoding="utf-8"))


def _batch(train: Prepared, step: int, *, batch_size: int = 4) -> list[int]:
    """The rows of a step of the first epoch."""
    return train.epoch_batches(batch_size=batch_size, seed=11, epoch=1)[step - 1]


def _poisoned(train: Prepared, step: int, factor: float = math.nan, *, gradient: bool = False, batch_size: int = 4) -> PoisonedModel:
    return PoisonedModel(train.examples[_batch(train, step, batch_size=batch_size)[0]].rendered.ids_T, factor, gradient=gradient)


def _run(folder: Path, model: TrainableModel, train: Prepared, spec: TrainingSpec, **options) -> tuple[Recorder, TrainResult]:
    hooks = Recorder()
    return hooks, Trainer(model, spec, train, None, hooks, folder / "state", **options).run()


class _Watching(Recorder):
    """Keeps the weights after each step, skipped or not."""

    def __init__(self, model: TrainableModel) -> None:
        super().__init__()
        self.model, self.weights = model, dict[int, list[torch.Tensor]]()

    def _keep(self, step: int) -> None:
        self.weights[step] = [p.detach().clone() for p in self.model.adapter_parameters(ADAPTER_NAME)]

    def step_done(self, report):
        super().step_done(report)
        self._keep(report.step)

    def happened(self, news):
        super().happened(news)
        assert not isinstance(news, Notice)
        self._keep(news.step)


@pytest.mark.parametrize("gradient", [False, True], ids=["loss", "gradient"])
def test_a_step_that_is_not_finite_is_skipped_with_its_lines_and_changes_nothing(tmp_path, gradient):
    train = prepared()
    model = _poisoned(train, 3, gradient=gradient)
    hooks = _Watching(model)
    result = Trainer(model, spec_for(train, epochs=1), train, None, hooks, tmp_path / "state").run()
    assert [s.step for s in hooks.steps] == [1, 2, 4, 5, 6]
    (skipped,) = hooks.news
    assert isinstance(skipped, StepSkipped)
    assert (skipped.step, skipped.what, skipped.in_row) == (3, "gradient" if gradient else "loss", 1)
    assert skipped.lines == tuple(sorted(train.examples[i].source.line for i in _batch(train, 3)))
    assert all(torch.equal(a, b) for a, b in zip(hooks.weights[2], hooks.weights[3], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(hooks.weights[3], hooks.weights[4], strict=True))
    tokens = sum(s.num_tokens for s in hooks.steps)
    assert result.trained_tokens == tokens == train.num_trained - 2 * len(_batch(train, 3))
    assert hooks.epochs[0].train_loss == pytest.approx(sum(s.loss * s.num_tokens for s in hooks.steps) / tokens)
    assert result.steps == 6


class _WithoutThird(Prepared):
    """The same rows, and no third batch."""

    def epoch_batches(self, **options):
        batches = super().epoch_batches(**options)
        return [*batches[:2], *batches[3:]]


def test_the_optimizer_does_not_see_a_skipped_step(tmp_path):
    """AdamW's moments and its counter are those of a run that has one batch less."""
    train = prepared()
    fewer = _WithoutThird(examples=train.examples, num_tokens=train.num_tokens, num_trained=train.num_trained, num_truncated=0)
    spec = replace(spec_for(train, epochs=1), warmup_steps=0, schedule=Schedule.CONSTANT)
    model, other = _poisoned(train, 3), TrainableModel()
    _run(tmp_path / "a", model, train, spec)
    _run(tmp_path / "b", other, fewer, spec)
    for mine, theirs in zip(model.adapter_parameters(ADAPTER_NAME), other.adapter_parameters(ADAPTER_NAME), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("method", list(TuningMethod))
def test_too_many_in_a_row_fail_the_job_with_step_and_lines(tmp_path, method):
    train = prepared()

    class Broken(TrainableModel):
        def logits_at(self, ids_BT, lengths_B, rows_N, columns_N):
            logits = super().logits_at(ids_BT, lengths_B, rows_N, columns_N)
            return logits * math.nan if logits.requires_grad else logits

    model, hooks = Broken(), Recorder()
    spec = replace(spec_for(train, method=method), max_skipped_steps=2)
    with pytest.raises(JobFailure) as caught:
        Trainer(model, spec, train, None, hooks, tmp_path / "state").run()
    assert caught.value.code == "nan_loss"
    assert "at step 3 of 18" in caught.value.message
    assert "the 3rd step in a row" in caught.value.message
    for index in _batch(train, 3):
        assert str(train.examples[index].source.line) in caught.value.message
    assert [(n.step, n.in_row) for n in hooks.news if isinstance(n, StepSkipped)] == [(1, 1), (2, 2)]
    parameters = model.adapter_parameters(ADAPTER_NAME) if method is TuningMethod.LORA else model.all_parameters()
    assert all(torch.isfinite(p).all() for p in parameters)


def test_with_none_allowed_the_first_one_fails_the_job(tmp_path):
    train = prepared()
    with pytest.raises(JobFailure, match=r"step 3 of 18.*Look at these lines"):
        _run(tmp_path, _poisoned(train, 3), train, replace(spec_for(train), max_skipped_steps=0))


def test_an_epoch_that_taught_nothing_fails_the_job(tmp_path):
    train = prepared(3)
    with pytest.raises(JobFailure, match="No step of epoch 1") as caught:
        _run(tmp_path, _poisoned(train, 1), train, spec_for(train))
    assert caught.value.code == "nan_loss"


def test_losses_of_rows_that_were_skipped_are_not_kept(tmp_path):
    train, run = prepared(), tmp_path / "run"
    run.mkdir()
    _run(tmp_path, _poisoned(train, 3), train, spec_for(train, epochs=1), run_dir=run)
    lines = {int(row["line"]) for row in read_epoch(run, 1)}
    assert lines == {e.source.line for e in train.examples} - {train.examples[i].source.line for i in _batch(train, 3)}


def test_the_bound_is_robust_and_needs_some_losses():
    calm = [1.0, 1.1, 0.9, 1.05] * 8
    assert spike_bound(calm[: FEWEST - 1]) is None
    bound = spike_bound(calm)
    assert bound is not None
    assert 1.5 < bound < 2.2
    assert spike_bound([*calm[:-3], 50.0, 60.0, 70.0]) == pytest.approx(bound, abs=0.3)
    noisy = [0.2, 3.0, 1.0, 2.5, 0.1, 2.0, 0.5, 1.5] * 4
    wide = spike_bound(noisy)
    assert wide is not None
    assert wide > 6.0


def _told(losses: list[float]) -> list[int]:
    """The steps of a recorded run at which a spike is told."""
    spec, progress, told = spec_for(prepared()), Progress(), []
    for step, loss in enumerate(losses, 1):
        verdict = judged(progress, spec, step=step, loss=loss, lines=[step])
        progress = verdict.progress
        if verdict.spike is not None:
            told.append(step)
            assert loss > verdict.spike.bound >= max(losses[:FEWEST])
    return told


def test_hard_rows_of_a_calm_run_are_no_spikes():
    losses = RECORDED["calm"]
    alone = [i for i in range(FEWEST, len(losses)) if losses[i] > (spike_bound(losses[max(0, i - WINDOW) : i]) or math.inf)]
    assert len(alone) == 19, "the recorded run no longer shows what the start is kept for"
    assert _told(losses) == []


def test_broken_rows_of_a_recorded_run_are_spikes_and_nothing_else_is():
    first, *later = RECORDED["broken_steps"]
    assert _told(RECORDED["broken"]) == later
    assert first < 2 * FEWEST + 3, "while losses still fall from the start the bound is wide"


def test_a_run_whose_start_was_not_kept_is_judged_by_the_bound_alone():
    progress = Progress(recent_losses=(0.1,) * WINDOW)
    assert judged(progress, spec_for(prepared()), step=40, loss=2.0, lines=[1]).spike is not None
    assert judged(replace(progress, start_loss=3.0), spec_for(prepared()), step=40, loss=2.0, lines=[1]).spike is None


def test_a_spike_is_told_before_its_update_and_halves_the_rate_once(tmp_path):
    train = prepared()
    spec = replace(spec_for(train, batch_size=1, epochs=2, rate=0.05), halve_on_spike=True)
    hooks, _ = _run(tmp_path, _poisoned(train, 19, 60.0, batch_size=1), train, spec)
    spikes = [n for n in hooks.news if isinstance(n, LossSpiked)]
    assert spikes[0].step == 19
    assert spikes[0].halved
    assert spikes[0].rate_factor == 0.5
    assert spikes[0].loss > spikes[0].bound > spikes[0].usual
    assert spikes[0].lines == (train.examples[_batch(train, 19, batch_size=1)[0]].source.line,)
    for step in hooks.steps:
        factor = math.prod(0.5 for spike in spikes if spike.halved and spike.step <= step.step)
        assert step.learning_rate == learning_rate_at(step.step, spec) * factor


def test_by_default_a_spike_is_told_and_the_rate_stays(tmp_path):
    train = prepared()
    spec = spec_for(train, batch_size=1, epochs=1, rate=0.05)
    hooks, _ = _run(tmp_path, _poisoned(train, 19, 60.0, batch_size=1), train, spec)
    assert [(n.step, n.halved) for n in hooks.news if isinstance(n, LossSpiked)] == [(19, False)]
    assert [s.learning_rate for s in hooks.steps] == [learning_rate_at(s.step, spec) for s in hooks.steps]


def test_a_disturbance_that_lasts_halves_once_and_pairs_are_not_judged():
    spec = replace(spec_for(prepared()), halve_on_spike=True)
    progress = Progress(recent_losses=(1.0,) * WINDOW)
    halvings = []
    for step in range(100, 110):
        verdict = judged(progress, spec, step=step, loss=9.0, lines=[1])
        progress = verdict.progress
        assert verdict.spike is not None
        halvings.append(verdict.spike.halved)
    assert halvings == [True, *[False] * 9]
    assert len(progress.recent_losses) == WINDOW
    pairs = replace(spec, objective=ObjectiveKind.DPO)
    assert judged(progress, pairs, step=1, loss=1e9, lines=[1]).spike is None


@pytest.mark.parametrize("stop", range(1, 12))
def test_skipped_steps_and_halved_rates_resume_bit_for_bit(tmp_path, stop):
    train = prepared()
    spec = replace(spec_for(train, epochs=2), halve_on_spike=True)
    straight = _poisoned(train, 3)
    whole, end = _run(tmp_path / "straight", straight, train, spec)
    first, second, model = Recorder(stop_after=stop), Recorder(), _poisoned(train, 3)
    Trainer(_poisoned(train, 3), spec, train, None, first, tmp_path / "torn").run()
    assert Trainer(model, spec, train, None, second, tmp_path / "torn").run() == end
    for mine, theirs in zip(model.adapter_parameters(ADAPTER_NAME), straight.adapter_parameters(ADAPTER_NAME), strict=True):
        assert torch.equal(mine, theirs)
    assert [(s.step, s.loss) for s in first.steps + second.steps] == [(s.step, s.loss) for s in whole.steps]
    assert first.news + second.news == whole.news
