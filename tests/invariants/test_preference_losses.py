"""ORPO and KTO on pairs: the formulas of their papers and of TRL, one sum however a batch is cut, and a resume to the last bit."""

import math
from dataclasses import replace

import pytest
import torch

from luthier.core.specs import ObjectiveKind, TuningMethod
from luthier.models import decoder
from luthier.models.load import load_model
from luthier.training.kto import KtoObjective, kto_loss
from luthier.training.methods import objective_of
from luthier.training.orpo import OrpoObjective, orpo_loss
from luthier.training.pairs import score_answers
from luthier.training.reference import ReferenceStore
from luthier.training.turns import run_alone
from tests.support.mini import load_mini
from tests.support.preference_rows import pair_spec, pairs, parent_adapter
from tests.support.preference_runs import Crashing, figures, formality, gradient, plain_logp, run, same_in_the_end
from tests.support.tiny_models import build
from tests.support.trainable_model import Recorder, TrainableModel

ORPO, KTO = ObjectiveKind.ORPO, ObjectiveKind.KTO
METHODS = pytest.mark.parametrize("method", list(TuningMethod))
LOSSES = pytest.mark.parametrize("loss", [ORPO, KTO])


def _plain_orpo(policy, _reference, _drift, tokens, beta):
    """Hong et al. 2024 with nothing but probabilities: mean loss of the preferred answer, and the logarithm of the odds ratio."""
    means = policy / tokens
    odds = means.exp() / (1 - means.exp())
    losses = -means[0::2] - beta * torch.log(torch.sigmoid(torch.log(odds[0::2] / odds[1::2])))
    return losses.mean(), beta * means


def _trl_orpo(policy, _reference, _drift, tokens, beta):
    """``ORPOTrainer``'s way to the odds, its likelihood taken over the answer alone."""
    chosen, rejected = (policy / tokens)[0::2], (policy / tokens)[1::2]
    log_odds = (chosen - rejected) - (torch.log1p(-chosen.exp()) - torch.log1p(-rejected.exp()))
    return (-chosen - beta * torch.nn.functional.logsigmoid(log_odds)).mean(), beta * policy / tokens


def _plain_kto(policy, reference, drift, _tokens, beta):
    """Ethayarajh et al. 2024, example by example, the mean over desirable and undesirable ones together. ``drift``: log-ratios of prompts
    beside answers of other pairs."""
    kl = max(0.0, float(drift.mean()))
    losses = []
    for at, ratio in enumerate(policy - reference):
        value = torch.sigmoid(beta * (ratio - kl)) if at % 2 == 0 else torch.sigmoid(beta * (kl - ratio))
        losses.append(1 - value)
    return torch.stack(losses).mean(), beta * (policy - reference)


def _moved(model, method, beside):
    """The parameters that learn, away from where they began towards some rows, and the adapter that they belong to."""
    adapter, parameters = None, model.all_parameters()
    if method is TuningMethod.LORA:
        adapter = "a"
        model.add_adapter("a", rank=4, alpha=8.0, seed=1)
        parameters = model.adapter_parameters("a")
    generator = torch.Generator().manual_seed(4)
    for parameter in parameters:
        parameter.requires_grad_(True)
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    with model.use_adapter(adapter):
        score_answers(model, beside.batch(range(len(beside.examples)))).logps_B.sum().backward()
    for parameter in parameters:
        parameter.data += 0.05 * gradient(parameter).sign()
        parameter.grad = None
    return parameters, adapter


@METHODS
@pytest.mark.parametrize("family", ["llama", "gpt2"], ids=["fast", "general"])
@pytest.mark.parametrize(("loss", "plain"), [(ORPO, _plain_orpo), (ORPO, _trl_orpo), (KTO, _plain_kto)], ids=["orpo", "trl-orpo", "kto"])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_loss_gradient_and_metrics_are_those_of_the_formula(tmp_path, method, family, loss, plain, beta, monkeypatch):
    monkeypatch.setattr(decoder, "CHUNK_NUMBERS", 8192 * 3)
    model = load_model(build(family, tmp_path / "m"), dtype=torch.float64)
    source = formality(count=5)
    spec = pair_spec(source, beta=beta, objective=loss)
    rows, beside = range(len(source.examples)), source.mismatched(spec.max_length)
    tokens = torch.tensor([example.rendered.num_trained for example in source.examples])
    with torch.no_grad():
        reference = torch.stack([plain_logp(model, source.examples[row]) for row in rows])
        before = torch.stack([plain_logp(model, beside.examples[row]) for row in rows])
    objective = objective_of(spec)
    assert run_alone(objective.prepare(model, [source], adapter=None, store=ReferenceStore(tmp_path / "r", "x"), hooks=Recorder()))
    parameters, adapter = _moved(model, method, beside)
    with model.use_adapter(adapter):
        sums = run_alone(objective.for_examples(model, source, range(5))).sums(model, source, rows)
        (sums.loss / sums.count).backward()
        ours = [gradient(parameter).clone() for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        policy = torch.stack([plain_logp(model, source.examples[row]) for row in rows])
        with torch.no_grad():
            drift = torch.stack([plain_logp(model, beside.examples[row]) for row in rows]) - before
        assert drift.mean() > 0.1, "the reference point is not at its bound"
        expected, rewards = plain(policy, reference, drift, tokens, beta)
        expected.backward()

    assert (sums.count, objective.count(source, rows)) == (5, 5)
    assert float(sums.loss.detach()) / 5 == pytest.approx(float(expected.detach()), rel=1e-5)
    for mine, parameter in zip(ours, parameters, strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-6)
    assert sums.parts is not None
    policy, chosen, rejected = policy.detach(), rewards.detach()[0::2], rewards.detach()[1::2]
    assert objective.means(sums.parts.tolist(), 5) == pytest.approx(
        {
            "reward_chosen": float(chosen.mean()),
            "reward_rejected": float(rejected.mean()),
            "reward_margin": float((chosen - rejected).mean()),
            "reward_accuracy": float((chosen > rejected).double().mean()),
            "logp_chosen": float(policy[0::2].mean()),
            "logp_rejected": float(policy[1::2].mean()),
            "prefers": float((policy[0::2] > policy[1::2]).double().mean()),
        },
        rel=1e-4,
        abs=1e-5,
    )


@pytest.mark.parametrize("method", [TuningMethod.LORA, TuningMethod.FULL])
@pytest.mark.parametrize("parent", [False, True])
def test_kto_starts_at_one_half(tmp_path, method, parent):
    if parent and method is TuningMethod.FULL:
        pytest.skip("all weights are tuned from a folder, not from an adapter")
    train, valid = pairs(), pairs(9, seed=5)
    options = {"parent_adapter": parent_adapter(tmp_path / "parent")} if parent else {}
    _, hooks = run(tmp_path / "run", TrainableModel(), pair_spec(train, method=method, objective=KTO), train, valid, **options)
    assert hooks.base[0].loss == 0.5
    assert (figures(hooks.base[0])["reward_margin"], figures(hooks.base[0])["reward_accuracy"]) == (0.0, 0.5)
    assert hooks.steps[0].loss == pytest.approx(0.5, abs=1e-6)
    assert hooks.references[-1].total == 30


def test_orpo_measures_no_reference_and_tells_where_it_starts(tmp_path):
    train, valid = pairs(), pairs(9, seed=5)
    _, hooks = run(tmp_path / "run", TrainableModel(), pair_spec(train, objective=ORPO), train, valid)
    assert hooks.references == []
    assert not (tmp_path / "run" / "reference").exists()
    start = figures(hooks.base[0])
    tokens = [example.rendered.num_trained for example in valid.examples]
    assert hooks.base[0].loss > -start["reward_chosen"] / 0.1 > 0, "the odds ratio comes on top of the preferred answer's own loss"
    assert start["reward_chosen"] == pytest.approx(0.1 * start["logp_chosen"] / (sum(tokens[0::2]) / 9), rel=0.3)


def test_losses_stay_finite_at_the_ends_of_probability():
    """Answers that are certain, and answers that are all but impossible."""
    values = [0.0, -1e-9, -1e-4, -1.0, -60.0, -1e4]
    for chosen in values:
        for rejected in values:
            means = torch.tensor([[chosen, rejected]], requires_grad=True)
            loss = orpo_loss(means, 0.1).sum()
            loss.backward()
            assert math.isfinite(float(loss.detach()))
            assert bool(torch.isfinite(gradient(means)).all())
    assert float(orpo_loss(torch.tensor([[-1.0, -1.0]]), 0.1)) == pytest.approx(1 + 0.1 * math.log(2))
    assert kto_loss(torch.tensor([[0.0, 0.0], [1e4, -1e4], [-1e4, 1e4]])).tolist() == [0.5, 0.0, 1.0]


@LOSSES
@METHODS
def test_how_a_batch_is_cut_changes_neither_loss_nor_gradient(tmp_path, method, loss):
    train = pairs()
    spec = replace(pair_spec(train, method=method, batch_size=16, objective=loss), max_grad_norm=1e9)
    _, whole = run(tmp_path / "whole", TrainableModel(), spec, train)
    model = TrainableModel()
    model.facts = replace(model.facts, hidden_size=700_000)
    _, cut = run(tmp_path / "cut", model, spec, train)
    for a, b in zip(whole.steps, cut.steps, strict=True):
        assert (a.loss, a.grad_norm) == (pytest.approx(b.loss, rel=1e-4), pytest.approx(b.grad_norm, rel=1e-3))
        assert a.preference == pytest.approx(b.preference, rel=1e-3, abs=1e-5)


@LOSSES
def test_packed_rows_learn_as_padded_ones(tmp_path, loss):
    train = formality(count=6)
    spec = pair_spec(train, epochs=1, rate=1e-4, objective=loss)
    _, padded = run(tmp_path / "padded", load_mini(), spec, train)
    _, packed = run(tmp_path / "packed", load_mini(), replace(spec, packing=True), train)
    assert [step.padding_share for step in packed.steps] == [0.0] * len(packed.steps)
    for a, b in zip(padded.steps, packed.steps, strict=True):
        assert (a.loss, a.grad_norm) == (pytest.approx(b.loss, rel=1e-4), pytest.approx(b.grad_norm, rel=1e-3))
        # Rewards of 0, as KTO's are before the first step, have signs of rounding.
        assert dict(figures(a), reward_accuracy=0) == pytest.approx(dict(figures(b), reward_accuracy=0), rel=1e-3, abs=1e-4)


@LOSSES
@METHODS
def test_it_learns_to_prefer(tmp_path, method, loss):
    train = pairs()
    _, hooks = run(tmp_path, TrainableModel(), pair_spec(train, method=method, epochs=8, objective=loss, beta=0.5), train)
    first, last = hooks.epochs[0], hooks.epochs[-1]
    assert last.train_loss < first.train_loss
    assert figures(last)["reward_accuracy"] > 0.9
    assert figures(last)["prefers"] > figures(hooks.base[0])["prefers"]
    if loss is ORPO:
        assert figures(last)["logp_chosen"] > figures(hooks.base[0])["logp_chosen"], "the preferred answers are imitated too"


@LOSSES
@METHODS
@pytest.mark.parametrize("stop", [0, 3, 8])
def test_a_stop_after_any_step_changes_nothing(tmp_path, method, loss, stop):
    train, valid = pairs(), pairs(9, seed=5)
    spec = pair_spec(train, method=method, objective=loss)
    same_in_the_end(tmp_path, TrainableModel, train, valid, spec, [Recorder(stop_after=stop)])


@LOSSES
def test_the_embedded_model_goes_on_bit_for_bit(tmp_path, loss):
    train = formality()
    spec = pair_spec(train, epochs=2, rate=1e-4, objective=loss)
    same_in_the_end(tmp_path, load_mini, train, None, spec, [Crashing(step=2), Recorder(stop_after=2)])


def test_each_spec_gets_its_own_loss():
    train = pairs()
    assert isinstance(objective_of(pair_spec(train, objective=ORPO)), OrpoObjective)
    assert isinstance(objective_of(pair_spec(train, objective=KTO)), KtoObjective)
    identities = {pair_spec(train, objective=kind).identity() for kind in (ObjectiveKind.DPO, ORPO, KTO)}
    assert len(identities) == 3
