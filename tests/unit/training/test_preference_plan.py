"""Before a preference job runs: its decided numbers, its plan, which is exact, and a dry run of it."""

from dataclasses import replace

import pytest

from luthier.core.specs import Hyperparameters, LuthierOptions, ObjectiveKind, TuningMethod, spec_from_dict
from luthier.training import against_reference, orpo
from luthier.training.dry_run import dry_run
from luthier.training.forecast import largest_activations
from luthier.training.loop import Trainer
from luthier.training.plan import plan_run
from luthier.training.rates import PREFERENCE_SHARE
from luthier.training.resolve import RunFacts, resolve
from luthier.training.work import ModelShape
from tests.support.preference_rows import pair_spec, pairs
from tests.support.trainable_model import Recorder, TrainableModel, spec_for

FACTS = RunFacts(
    num_examples=160,
    num_parameters=8_500_000,
    base="b",
    base_revision="r",
    dataset_fingerprint="d",
    validation_fingerprint=None,
    seed=1,
    num_threads=1,
    objective=ObjectiveKind.DPO,
)
SHAPE = ModelShape(
    num_parameters=1000,
    vocab_size=20,
    hidden_size=8,
    num_layers=1,
    num_heads=1,
    q_size=8,
    kv_size=8,
    mlp_size=16,
    tied_head=True,
    fast=True,
)


@pytest.mark.parametrize("method", list(TuningMethod))
def test_beta_and_a_smaller_rate_are_decided_with_reasons(method: TuningMethod) -> None:
    options = LuthierOptions(adapter=method)
    spec, decisions = resolve(Hyperparameters(), options, FACTS, max_length=64)
    supervised, _ = resolve(Hyperparameters(), options, replace(FACTS, objective=ObjectiveKind.SUPERVISED), max_length=64)
    assert (spec.beta, spec.n_epochs, spec.batch_size) == (0.1, supervised.n_epochs, supervised.batch_size)
    assert spec.learning_rate == pytest.approx(PREFERENCE_SHARE * supervised.learning_rate)
    reasons = {decision.name: decision.reason for decision in decisions}
    assert "because pairs are learned" in reasons["learning_rate"]
    assert "beta" in reasons
    asked, decisions = resolve(Hyperparameters(beta=0.5), options, FACTS, max_length=64)
    assert asked.beta == 0.5
    assert "beta" not in {decision.name for decision in decisions}


@pytest.mark.parametrize(("loss", "share"), [(ObjectiveKind.ORPO, 1.0), (ObjectiveKind.KTO, PREFERENCE_SHARE)])
def test_another_loss_on_pairs_has_its_own_sentences_and_rate(loss: ObjectiveKind, share: float) -> None:
    spec, decisions = resolve(Hyperparameters(), LuthierOptions(preference_loss=loss), FACTS, max_length=64)
    supervised, plain = resolve(
        Hyperparameters(), LuthierOptions(preference_loss=loss), replace(FACTS, objective=ObjectiveKind.SUPERVISED), max_length=64
    )
    assert (spec.objective, spec.beta) == (loss, 0.1)
    assert spec.learning_rate == pytest.approx(share * supervised.learning_rate)
    found = {decision.name: decision for decision in decisions}
    assert found["preference_loss"].value == loss.value
    assert "arXiv" in found["preference_loss"].reason
    assert ("because pairs are learned" in found["learning_rate"].reason) == (share < 1.0)
    assert ("lambda" in found["beta"].reason) == (loss is ObjectiveKind.ORPO)
    assert spec_from_dict(spec.to_dict()) == spec
    assert (supervised.objective, supervised.beta) == (ObjectiveKind.SUPERVISED, 0.0)
    assert "preference_loss" not in {decision.name for decision in plain}


def test_the_objective_is_part_of_the_runs_identity_and_older_runs_keep_theirs() -> None:
    train = pairs()
    spec = pair_spec(train)
    assert spec_from_dict(spec.to_dict()) == spec
    assert spec.identity() != replace(spec, beta=0.2).identity()
    supervised = spec_for(train)
    older = {name: value for name, value in supervised.to_dict().items() if name not in ("objective", "beta")}
    assert spec_from_dict(older).identity() == supervised.identity()


@pytest.mark.parametrize("loss", [ObjectiveKind.DPO, ObjectiveKind.ORPO, ObjectiveKind.KTO])
def test_the_plan_is_what_the_run_does(tmp_path, monkeypatch, loss: ObjectiveKind) -> None:
    train, valid = pairs(), pairs(9, seed=5)
    spec, model = pair_spec(train, epochs=1, objective=loss), TrainableModel()
    plan = plan_run(spec, train, valid, model.facts, SHAPE)
    assert (plan.examples, plan.sources, len(plan.steps)) == (21, 9, spec.total_steps)
    assert plan.tokens_per_epoch == train.num_tokens
    forwards = []
    module = against_reference if loss.has_reference else orpo
    original = module.score_answers

    def noting(model, batch):
        forwards.append(batch.ids_BT.shape)
        return original(model, batch)

    monkeypatch.setattr(module, "score_answers", noting)
    result = Trainer(model, spec, train, valid, Recorder(), tmp_path / "state").run()
    assert result.tokens_seen == plan.tokens_per_epoch
    steps = [(micro.rows, micro.longest) for step in plan.steps for micro in step.micros]
    others = [(micro.rows, micro.longest) for micro in plan.forwards()]
    assert sorted(map(tuple, forwards)) == sorted(steps + others)
    assert [tuple(shape) for shape in forwards[: len(plan.base)]] == [(micro.rows, micro.longest) for micro in plan.base]


@pytest.mark.parametrize("loss", [ObjectiveKind.DPO, ObjectiveKind.KTO])
def test_a_dry_run_needs_no_reference(tmp_path, monkeypatch, loss: ObjectiveKind) -> None:
    monkeypatch.setattr("luthier.training.dry_run._answers", lambda *_, **__: (0.0, None))
    monkeypatch.setattr("luthier.training.dry_run._checkpoint", lambda *_: 0.0)
    train, valid = pairs(), pairs(9, seed=5)
    model = TrainableModel()
    plan = plan_run(pair_spec(train, objective=loss), train, valid, model.facts, SHAPE)
    measured = dry_run(model, plan, train, valid, tmp_path, seconds=0.2)
    assert len(measured.steps) >= 4
    assert len(measured.forwards) >= 1


def test_by_kto_a_step_reads_as_many_rows_again_before_it_and_its_memory_is_that_of_dpo() -> None:
    train, valid = pairs(), pairs(9, seed=5)
    dpo, kto = (
        plan_run(pair_spec(train, batch_size=8, objective=loss), train, valid, TrainableModel().facts, replace(SHAPE, num_layers=12))
        for loss in (ObjectiveKind.DPO, ObjectiveKind.KTO)
    )
    for before, now in zip(dpo.steps, kto.steps, strict=True):
        assert (before.ahead, now.micros) == ((), before.micros)
        assert sum(micro.rows for micro in now.ahead) == len(now.indices)
        assert 1.2 < now.work / before.work < 1.8
    assert kto.epoch_end == dpo.epoch_end
    assert sum(micro.rows for micro in kto.epoch_ahead) == sum(micro.rows for micro in kto.epoch_end)
    assert sum(micro.rows for micro in kto.base) == 2 * sum(micro.rows for micro in dpo.base) == 120
    assert largest_activations(kto) == largest_activations(dpo), "what is read without gradients keeps nothing"
