"""The loop: what it reports, in which order, when it stops and what it refuses."""

from dataclasses import replace

import pytest
import torch

from luthier.core.specs import TuningMethod
from luthier.training import loop
from luthier.training.attach import ADAPTER_NAME
from luthier.training.evaluate import measure
from luthier.training.loop import Trainer
from luthier.training.sft import sft_sums
from tests.support.trainable_model import Recorder, TrainableModel, prepared, spec_for


def _run(tmp_path, *, train=None, valid=None, hooks=None, model=None, spec=None, **options):
    train = train or prepared()
    hooks = hooks or Recorder()
    model = model or TrainableModel()
    spec = spec or spec_for(train)
    result = Trainer(model, spec, train, valid, hooks, tmp_path / "state", **options).run()
    return model, hooks, result


def test_an_adapter_learns_while_the_base_stays_bit_for_bit(tmp_path):
    untouched = TrainableModel()
    model, hooks, result = _run(tmp_path, model=TrainableModel())
    assert torch.equal(model.all_parameters()[0], untouched.all_parameters()[0])
    assert hooks.epochs[-1].train_loss < 0.7 * hooks.epochs[0].train_loss
    assert (result.steps, result.stopped) == (18, False)
    assert model.adapter_parameters(ADAPTER_NAME)[1].abs().sum() > 0


def test_full_tuning_changes_the_model_itself(tmp_path):
    train = prepared()
    model, hooks, _ = _run(tmp_path, train=train, spec=spec_for(train, method=TuningMethod.FULL))
    assert not torch.equal(model.all_parameters()[0], TrainableModel().all_parameters()[0])
    assert hooks.epochs[-1].train_loss < 0.7 * hooks.epochs[0].train_loss


def test_steps_and_epochs_are_reported_whole(tmp_path):
    _, hooks, result = _run(tmp_path)
    assert [s.step for s in hooks.steps] == list(range(1, 19))
    assert [s.epoch for s in hooks.steps] == [1] * 6 + [2] * 6 + [3] * 6
    assert [(e.epoch, e.step) for e in hooks.epochs] == [(1, 6), (2, 12), (3, 18)]
    assert [(epoch, step) for epoch, step, _ in hooks.checkpoints] == [(1, 6), (2, 12), (3, 18)]
    train = prepared()
    assert result.tokens_seen == 3 * train.num_tokens
    assert result.trained_tokens == 3 * train.num_trained


def test_epoch_means_are_weighted_by_tokens(tmp_path):
    _, hooks, _ = _run(tmp_path)
    for epoch in hooks.epochs:
        steps = [s for s in hooks.steps if s.epoch == epoch.epoch]
        tokens = sum(s.num_tokens for s in steps)
        assert epoch.train_loss == pytest.approx(sum(s.loss * s.num_tokens for s in steps) / tokens)
        assert epoch.train_accuracy == pytest.approx(sum(s.token_accuracy * s.num_tokens for s in steps) / tokens)


def test_the_first_steps_loss_is_the_bases_on_these_rows(tmp_path):
    train, model = prepared(), TrainableModel()
    first = train.epoch_batches(batch_size=4, seed=11, epoch=1)[0]
    sums = sft_sums(model, train.batch(first))
    _, hooks, _ = _run(tmp_path, train=train)
    assert hooks.steps[0].loss == pytest.approx(float(sums.loss) / sums.num_tokens)


def test_how_a_batch_is_cut_changes_neither_loss_nor_gradient(tmp_path):
    train = prepared()
    spec = replace(spec_for(train, batch_size=16), max_grad_norm=1e9)
    _, whole, _ = _run(tmp_path / "whole", train=train, spec=spec)
    model = TrainableModel()
    model.facts = replace(model.facts, hidden_size=700_000)
    _, cut, _ = _run(tmp_path / "cut", train=train, spec=spec, model=model)
    for a, b in zip(whole.steps, cut.steps, strict=True):
        assert (a.loss, a.grad_norm) == (pytest.approx(b.loss, rel=1e-4), pytest.approx(b.grad_norm, rel=1e-3))


def test_validation_comes_every_so_often_and_whole_at_epoch_ends(tmp_path):
    valid = prepared(12, seed=9)
    model, hooks, result = _run(tmp_path, valid=valid)
    assert [s.step for s in hooks.steps if s.valid_loss is not None] == [3, 6, 9, 12, 15, 18]
    with model.use_adapter(ADAPTER_NAME):
        assert hooks.epochs[-1].valid_loss == measure(model, valid).loss
        assert hooks.epochs[-1].sample_loss == measure(model, prepared(), [0]).loss
    assert hooks.base[0].held_out
    assert hooks.base[0].loss == measure(TrainableModel(), valid).loss
    assert set(result.metrics) == {
        "step",
        "train_loss",
        "train_mean_token_accuracy",
        "valid_loss",
        "valid_mean_token_accuracy",
        "full_valid_loss",
        "full_valid_mean_token_accuracy",
    }


def test_without_held_out_data_the_base_is_measured_on_the_training_rows(tmp_path):
    _, hooks, result = _run(tmp_path)
    assert (len(hooks.base), hooks.base[0].held_out) == (1, False)
    assert all(e.valid_loss is None for e in hooks.epochs)
    assert "valid_loss" not in result.metrics


def test_it_stops_between_two_steps_with_a_resume_state(tmp_path):
    _, hooks, result = _run(tmp_path, hooks=Recorder(stop_after=4))
    assert (result.steps, result.stopped) == (4, True)
    assert hooks.saves[-1].step == 4
    assert hooks.saves[-1].bytes > 0


def test_resume_states_come_at_least_at_the_share_and_at_epoch_ends(tmp_path):
    _, hooks, _ = _run(tmp_path, resume_share=0.25)
    steps = [save.step for save in hooks.saves]
    assert {6, 12, 18} <= set(steps)
    assert max(b - a for a, b in zip([0, *steps], steps, strict=False)) <= 6
    assert len(list((tmp_path / "state").iterdir())) == 2


def test_a_state_is_due_when_enough_seconds_have_passed(tmp_path):
    _, hooks, _ = _run(tmp_path, resume_share=1.0, resume_seconds=0.0)
    assert len(hooks.saves) > 3


def test_tuning_can_go_on_from_a_saved_adapter(tmp_path):
    model, first, _ = _run(tmp_path / "a")
    folder = tmp_path / "parent"
    folder.mkdir()
    torch.save([p.detach() for p in model.adapter_parameters(ADAPTER_NAME)], folder / "parts.pt")
    _, second, _ = _run(tmp_path / "b", parent_adapter=folder)
    assert second.epochs[0].train_loss < first.epochs[0].train_loss
    assert second.base[0].loss == first.base[0].loss


def test_an_exception_of_a_hook_ends_the_run_and_leaves_no_thread(tmp_path):
    class Leaving(Recorder):
        def step_done(self, report):
            if report.step == 5:
                raise KeyError("lease lost")

    with pytest.raises(KeyError):
        _run(tmp_path, hooks=Leaving(), resume_share=0.0)
    import threading

    assert not [t for t in threading.enumerate() if t.name == "resume-writer"]


@pytest.mark.parametrize("most", [1e-3, 1e9])
def test_gradients_are_cut_to_the_norm_and_left_alone_below_it(tmp_path, monkeypatch, most):
    norms, taken = [], loop.take_step

    def looking(optimizer, parameters, rate):
        norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in parameters])))
        taken(optimizer, parameters, rate)

    monkeypatch.setattr(loop, "take_step", looking)
    train = prepared()
    _, hooks, _ = _run(tmp_path, train=train, spec=replace(spec_for(train), max_grad_norm=most))
    assert min(step.grad_norm for step in hooks.steps) > 1e-3
    for used, step in zip(norms, hooks.steps, strict=True):
        assert used == pytest.approx(min(most, step.grad_norm), rel=1e-3)
