"""A base that is far from the answers: when it is, which numbers move, what they say, and that looking at it leaves nothing behind."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.core.specs import Hyperparameters, LuthierOptions, ObjectiveKind, TrainingSpec, TuningMethod, options_from
from luthier.training.base_probe import MOST_ROWS, MOST_TOKENS, probe_base, sample_rows
from luthier.training.base_rule import FAR_SHARE, BaseFound, asks_base
from luthier.training.evaluate import measure
from luthier.training.loop import Trainer
from luthier.training.resolve import RunFacts, resolve
from tests.support.trainable_model import Recorder, TrainableModel, prepared, spec_for

FAR = BaseFound(loss=8.587, num_rows=64, vocab_size=8192)
NEAR = replace(FAR, loss=2.17)
USUAL_RATE = 9e-4 / 4


def _facts(num_examples: int = 300, **changes: Any) -> RunFacts:
    values = {
        "num_examples": num_examples,
        "num_parameters": 8_500_000,
        "base": "b",
        "base_revision": "r",
        "dataset_fingerprint": "d",
        "validation_fingerprint": None,
        "seed": 1,
        "num_threads": 1,
    }
    return RunFacts(**{**values, **changes})


def _decided(
    asked: Hyperparameters | None = None, options: LuthierOptions | None = None, **changes: Any
) -> tuple[TrainingSpec, dict[str, str]]:
    spec, decisions = resolve(asked or Hyperparameters(), options or LuthierOptions(), _facts(**changes), max_length=64)
    return spec, {decision.name: decision.reason for decision in decisions}


def test_far_is_a_share_of_a_blind_guess() -> None:
    bound = FAR_SHARE * math.log(8192)
    assert replace(FAR, loss=bound).is_far
    assert not replace(FAR, loss=bound - 1e-6).is_far
    assert not replace(FAR, loss=bound, vocab_size=150_000).is_far, "of a larger vocabulary a guess costs more"
    assert not replace(FAR, loss=math.nan).is_far
    assert not replace(FAR, vocab_size=0).is_far, "the config did not say"


def test_a_far_base_gets_the_whole_rate_and_more_epochs_and_says_why() -> None:
    spec, reasons = _decided(found=FAR)
    assert (spec.n_epochs, spec.total_steps) == (10, 3_000)
    assert spec.learning_rate == pytest.approx(9e-4)
    assert spec.learning_rate_multiplier == pytest.approx(7.2)
    assert spec.warmup_steps == 100
    sentence = (
        "the base finds the answers of 64 examples at 8.59 nats a token (a blind guess among 8,192 tokens costs 9.01): it does not know "
        "this task"
    )
    assert reasons["n_epochs"] == (
        f"3 would be usual for 300 examples, but {sentence}. So about 3,000 examples are seen in all, in at most 10 epochs."
    )
    assert reasons["learning_rate_multiplier"] == (
        f"4 times the usual 1.8, because {sentence}. So the rate is not lowered for a batch of 1, which protects what a base knows."
    )
    assert reasons["learning_rate"].startswith("7.2 times the base rate 0.000125 ")


def test_a_near_base_keeps_the_usual_numbers_and_says_so() -> None:
    spec, reasons = _decided(found=NEAR)
    assert (spec.n_epochs, spec.learning_rate) == (3, pytest.approx(USUAL_RATE))
    assert reasons["n_epochs"] == "The usual 3 for 300 examples."
    assert reasons["learning_rate_multiplier"].endswith(
        "The base finds the answers of 64 examples at 2.17 nats a token (a blind guess among 8,192 tokens costs 9.01): it is not far from "
        "them."
    )


@pytest.mark.parametrize(("examples", "epochs"), [(5, 20), (10, 10), (33, 10), (299, 10), (301, 9), (600, 5), (1_000, 3), (9_000, 2)])
def test_epochs_grow_until_so_many_examples_are_seen_and_never_shrink(examples: int, epochs: int) -> None:
    assert _decided(num_examples=examples, found=FAR)[0].n_epochs == epochs


@pytest.mark.parametrize("batch_size", [1, 2, 4, 8, 64])
def test_the_rate_is_that_of_the_tables_batch_or_of_a_larger_one(batch_size: int) -> None:
    asked = Hyperparameters(batch_size=batch_size)
    hot, usual = _decided(asked, found=FAR)[0].learning_rate, _decided(asked, found=NEAR)[0].learning_rate
    assert hot == pytest.approx(max(9e-4, usual))


def test_what_was_asked_for_stays_and_the_other_number_still_moves() -> None:
    rate, _ = _decided(Hyperparameters(learning_rate_multiplier=2.0), found=FAR)
    assert (rate.n_epochs, rate.learning_rate_multiplier) == (10, 2.0)
    epochs, _ = _decided(Hyperparameters(n_epochs=2), found=FAR)
    assert (epochs.n_epochs, epochs.learning_rate) == (2, pytest.approx(9e-4))
    tested, _ = _decided(options=LuthierOptions(range_test=True), found=FAR)
    assert (tested.n_epochs, tested.learning_rate) == (10, pytest.approx(USUAL_RATE)), "a range test goes around the usual rate"


@pytest.mark.parametrize(
    ("asked", "options", "objective", "counts"),
    [
        ({}, {}, ObjectiveKind.SUPERVISED, True),
        ({"n_epochs": 2}, {"adapter": "dora"}, ObjectiveKind.SUPERVISED, True),
        ({"learning_rate_multiplier": 1.0}, {}, ObjectiveKind.SUPERVISED, True),
        ({"n_epochs": 2, "learning_rate_multiplier": 1.0}, {}, ObjectiveKind.SUPERVISED, False),
        ({"n_epochs": 2}, {"range_test": True}, ObjectiveKind.SUPERVISED, False),
        ({}, {"range_test": True}, ObjectiveKind.SUPERVISED, True),
        ({}, {"adapter": "full"}, ObjectiveKind.SUPERVISED, False),
        ({}, {"adapter": "rslora"}, ObjectiveKind.SUPERVISED, False),
        ({}, {"optimizer": "lion"}, ObjectiveKind.SUPERVISED, False),
        ({}, {}, ObjectiveKind.DPO, False),
    ],
)
def test_the_base_is_asked_only_where_the_rule_was_measured_and_a_number_is_open(
    asked: dict[str, Any], options: dict[str, Any], objective: ObjectiveKind, counts: bool
) -> None:
    given = Hyperparameters(**asked), options_from(options)
    assert asks_base(*given, objective) == counts
    if not counts:
        assert _decided(*given, objective=objective, found=FAR) == _decided(*given, objective=objective), "and what it says changes nothing"


def test_before_the_base_is_measured_the_numbers_say_that_they_may_move() -> None:
    _, reasons = _decided()
    assert [name for name, reason in reasons.items() if "It may become more just before the first step" in reason] == [
        "n_epochs",
        "learning_rate_multiplier",
    ]


def test_the_sample_is_the_runs_first_rows_within_bounds() -> None:
    train = prepared(200)
    spec = spec_for(train, method=TuningMethod.LORA)
    rows = sample_rows(spec, train)
    order = [row for batch in train.epoch_batches(batch_size=spec.batch_size, seed=spec.seed, epoch=1) for row in batch]
    assert rows == order[:MOST_ROWS]
    assert sample_rows(spec, prepared(5)) == [
        row for batch in prepared(5).epoch_batches(batch_size=spec.batch_size, seed=spec.seed, epoch=1) for row in batch
    ]


def test_long_rows_are_fewer_but_one_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    train = prepared(200)
    spec = spec_for(train, method=TuningMethod.LORA)
    monkeypatch.setattr("luthier.training.base_probe.MOST_TOKENS", 20)
    rows = sample_rows(spec, train)
    assert 1 < len(rows) < MOST_ROWS
    assert sum(int(train.lengths[row]) for row in rows) <= 20 < MOST_TOKENS
    monkeypatch.setattr("luthier.training.base_probe.MOST_TOKENS", 1)
    assert len(sample_rows(spec, train)) == 1


def test_it_measures_the_model_as_it_starts_with_the_same_bits() -> None:
    train, model = prepared(30), TrainableModel()
    spec = spec_for(train, method=TuningMethod.LORA)
    first, second = (probe_base(model, spec, train, parent_adapter=None) for _ in range(2))
    assert first == second
    assert first.loss == measure(model, train, sample_rows(spec, train)).loss
    assert (first.num_rows, first.vocab_size) == (30, 20)


def test_a_continued_adapter_is_what_is_measured_and_is_gone_afterwards(tmp_path: Path) -> None:
    train, model = prepared(30), TrainableModel()
    spec = spec_for(train, method=TuningMethod.LORA)
    model.add_adapter("parent", rank=4, alpha=8.0, seed=1)
    left, right = model.parts["parent"]
    torch.save([left.detach(), torch.randn(right.shape, generator=torch.Generator().manual_seed(2))], tmp_path / "parts.pt")
    model.remove_adapter("parent")
    found = probe_base(model, spec, train, parent_adapter=tmp_path)
    assert found.loss != probe_base(model, spec, train, parent_adapter=None).loss
    assert not model.adapters


def test_a_run_after_it_is_the_same_run(tmp_path: Path) -> None:
    ends = []
    for looks in (False, True):
        train, model, hooks = prepared(30), TrainableModel(), Recorder()
        spec = spec_for(train, method=TuningMethod.LORA)
        if looks:
            probe_base(model, spec, train, parent_adapter=None)
        Trainer(model, spec, train, None, hooks, tmp_path / str(looks)).run()
        ends.append(hooks.numbers())
    assert ends[0] == ends[1]
