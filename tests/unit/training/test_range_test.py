"""The range test of the learning rate: its length, its rates, its rule, and that it leaves nothing behind."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from luthier.core.specs import Hyperparameters, LuthierOptions, ObjectiveKind, TuningMethod, options_from, spec_from_dict
from luthier.trace.events import RangeTested
from luthier.training.loop import Trainer
from luthier.training.range_rule import (
    MARGIN,
    chosen_rate,
    range_test_decision,
    rate_at,
    rate_decisions,
    smoothed,
)
from luthier.training.range_test import RangeTest
from luthier.training.resolve import RunFacts, resolve
from tests.support.trainable_model import PoisonedModel, Recorder, TrainableModel, prepared, spec_for


def _facts(num_examples: int = 300, objective: ObjectiveKind = ObjectiveKind.SUPERVISED) -> RunFacts:
    return RunFacts(
        num_examples=num_examples,
        num_parameters=8_500_000,
        base="b",
        base_revision="r",
        dataset_fingerprint="d",
        validation_fingerprint=None,
        seed=1,
        num_threads=1,
        objective=objective,
    )


def _test_of(model: TrainableModel, *, steps: int = 40, method: TuningMethod = TuningMethod.LORA, rate: float = 0.05) -> RangeTested:
    train = prepared(30)
    spec = replace(spec_for(train, method=method, rate=rate), range_steps=steps)
    told = RangeTest(model, spec, train, parent_adapter=None, should_stop=lambda: False).run()
    assert told is not None
    return replace(told, seconds=0.0)


@pytest.mark.parametrize(("total", "steps"), [(1, 20), (199, 20), (200, 20), (450, 45), (600, 60), (100_000, 60)])
def test_it_takes_a_tenth_of_the_runs_steps_within_bounds(total: int, steps: int) -> None:
    decision = range_test_decision(total)
    assert (decision.name, decision.value) == ("range_test", steps)
    assert f"A tenth of {total:,} steps, at least 20 and at most 60." in decision.reason


def test_the_rate_rises_by_the_same_factor_from_a_tenth_to_ten_times() -> None:
    rates = [rate_at(step, 21, 2e-4) for step in range(1, 22)]
    assert rates[0] == pytest.approx(2e-5)
    assert rates[10] == pytest.approx(2e-4)
    assert rates[-1] == pytest.approx(2e-3)
    np.testing.assert_allclose(np.diff(np.log(rates)), np.log(100) / 20)


def test_smoothing_weighs_by_tokens_and_has_no_lag() -> None:
    rates = [rate_at(step, 41, 1.0) for step in range(1, 42)]
    valley = [abs(math.log10(rate)) - 1.0 for rate in rates]
    curve = smoothed(rates, valley, [3] * 41)
    assert int(np.argmin(curve)) == 20
    loud = [change + (5.0 if step == 20 else 0.0) for step, change in enumerate(valley)]
    tokens = [1 if step == 20 else 1_000_000 for step in range(41)]
    np.testing.assert_allclose(smoothed(rates, loud, tokens), smoothed(rates, valley, tokens), atol=1e-5)


def test_the_rule_takes_half_a_decade_below_the_lowest_loss() -> None:
    rates = [rate_at(step, 41, 1e-3) for step in range(1, 42)]
    curve = [(math.log10(rate) + 3.0) ** 2 - 1.0 for rate in rates]
    rate, lowest = chosen_rate(rates, curve, 1e-3)
    assert lowest == pytest.approx(1e-3)
    assert rate == pytest.approx(1e-3 / MARGIN)
    falling = [-float(step) for step in range(41)]
    assert chosen_rate(rates, falling, 1e-3)[0] == pytest.approx(1e-2 / MARGIN)
    rising = [-1.0, *range(40)]
    assert chosen_rate(rates, rising, 1e-3) == (rates[0], rates[0]), "never below the range"


def test_a_test_that_says_nothing_keeps_the_base_rate() -> None:
    assert chosen_rate([1.0] * 9, [-1.0] * 9, 5.0) == (5.0, None)
    assert chosen_rate([1.0] * 20, [0.0] * 20, 5.0) == (5.0, None)
    assert chosen_rate([], [], 5.0) == (5.0, None)


@pytest.mark.parametrize("method", list(TuningMethod))
def test_the_model_is_as_it_was_bit_for_bit_and_the_numbers_repeat(method: TuningMethod) -> None:
    model = TrainableModel()
    before = [parameter.detach().clone() for parameter in model.all_parameters()]
    random = torch.get_rng_state()
    told = _test_of(model, method=method)
    assert all(torch.equal(a, b) for a, b in zip(before, model.all_parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.all_parameters())
    assert (model.adapters, model.in_use, model.module.training) == ({}, None, True)
    assert _test_of(model, method=method) == told
    assert _test_of(TrainableModel(), method=method) == told
    assert torch.equal(torch.get_rng_state(), random)


def test_it_learns_and_its_changes_are_to_the_start() -> None:
    told = _test_of(TrainableModel())
    assert len(told.rates) == len(told.losses) == len(told.changes) == len(told.curve) == told.steps == 40
    assert told.changes[0] == pytest.approx(0.0, abs=1e-6), "nothing has moved before the first update"
    assert told.lowest_rate is not None
    assert min(told.curve) < 0
    assert told.learning_rate == pytest.approx(max(told.rates[0], told.lowest_rate / MARGIN))


def test_a_run_after_it_is_the_run_without_it(tmp_path: Path) -> None:
    """With the same rate: nothing of the test is left in the model, the adapter's start or the random numbers."""
    train = prepared(30)
    results = []
    for tested in (True, False):
        model, hooks = TrainableModel(), Recorder()
        spec = spec_for(train)
        if tested:
            test = RangeTest(model, replace(spec, range_steps=20), train, parent_adapter=None, should_stop=lambda: False)
            assert test.run() is not None
        Trainer(model, spec, train, None, hooks, tmp_path / str(tested)).run()
        results.append((hooks.numbers(), [p.tolist() for p in model.adapter_parameters("tuned")]))
    assert results[0] == results[1]


def test_a_number_that_is_not_finite_ends_it_where_it_is() -> None:
    train = prepared(30)
    spec = replace(spec_for(train), range_steps=40)
    rows = train.epoch_batches(batch_size=spec.batch_size, seed=spec.seed, epoch=1)[2]
    model = PoisonedModel(np.asarray(train.examples[rows[0]].rendered.ids_T))
    told = RangeTest(model, spec, train, parent_adapter=None, should_stop=lambda: False).run()
    assert told is not None
    assert len(told.rates) == 2
    assert (told.learning_rate, told.lowest_rate) == (spec.learning_rate, None)
    (decision,) = rate_decisions(told, 1.8)
    assert decision.reason == "The range test says nothing: after 2 of 40 steps a number was not finite. The automatic rate stays."


@pytest.mark.parametrize("after", [0, 5, 45])
def test_it_is_stopped_between_two_forwards_and_puts_everything_back(after: int) -> None:
    model, asked = TrainableModel(), []
    before = model.all_parameters()[0].detach().clone()
    train = prepared(30)
    spec = replace(spec_for(train, method=TuningMethod.FULL), range_steps=40)

    def stop() -> bool:
        asked.append(None)
        return len(asked) > after

    assert RangeTest(model, spec, train, parent_adapter=None, should_stop=stop).run() is None
    assert len(asked) == after + 1
    assert torch.equal(model.all_parameters()[0], before)


def test_only_an_automatic_rate_of_a_supervised_job_is_tested() -> None:
    asked = options_from({"range_test": True})
    spec, decisions = resolve(Hyperparameters(), asked, _facts(), max_length=64)
    assert spec.range_steps == 60
    assert [d.value for d in decisions if d.name == "range_test"] == [60]
    assert spec_from_dict(spec.to_dict()) == spec
    given, _ = resolve(Hyperparameters(learning_rate_multiplier=2.0), asked, _facts(), max_length=64)
    pairs, _ = resolve(Hyperparameters(), asked, _facts(objective=ObjectiveKind.DPO), max_length=64)
    plain, said = resolve(Hyperparameters(), LuthierOptions(), _facts(), max_length=64)
    assert (given.range_steps, pairs.range_steps, plain.range_steps) == (0, 0, 0)
    assert "range_test" not in {d.name for d in said}
    assert plain.identity() != spec.identity()


def test_the_reasons_say_where_the_rate_comes_from() -> None:
    told = _test_of(TrainableModel())
    amounts, rate = rate_decisions(replace(told, lowest_rate=0.031, learning_rate=0.0098, base_rate=0.05), 0.35)
    assert (amounts.name, amounts.value, rate.name, rate.value) == ("learning_rate_multiplier", 0.35, "learning_rate", 0.0098)
    expected = "Half a decade below the rate with the range test's lowest loss (0.031); the automatic rate would have been 0.05."
    assert rate.reason == expected
    _, at_end = rate_decisions(replace(told, lowest_rate=told.rates[-1]), 5.7)
    assert "(0.5, the end of its range, where the loss still fell)" in at_end.reason
    (nothing,) = rate_decisions(replace(told, lowest_rate=None), 1.8)
    assert nothing.reason == "The range test says nothing: none of its rates made rows cheaper. The automatic rate stays."
