"""Every "auto" becomes the documented number, with a reason."""

import pytest

from luthier.core.specs import Hyperparameters, LuthierOptions, TuningMethod
from luthier.training.rates import AUTO_MULTIPLIER, base_rate, size_class
from luthier.training.resolve import RunFacts, auto_batch_size, auto_epochs, auto_threads, resolve, resolve_max_length


def _facts(num_examples: int = 200, **changes) -> RunFacts:
    values = {
        "num_examples": num_examples,
        "num_parameters": 8_500_000,
        "base": "luthier-mini",
        "base_revision": "r",
        "dataset_fingerprint": "d",
        "validation_fingerprint": None,
        "seed": 7,
        "num_threads": 2,
    }
    return RunFacts(**{**values, **changes})


@pytest.mark.parametrize(
    ("examples", "epochs"),
    [(10, 10), (25, 4), (33, 3), (34, 3), (101, 3), (370, 3), (8333, 3), (8334, 2), (12_500, 2), (12_501, 1), (10**6, 1), (1, 25), (4, 25)],
)
def test_auto_epochs_follow_openais_rule(examples, epochs):
    assert auto_epochs(examples).value == epochs


@pytest.mark.parametrize(("examples", "size"), [(1500 * 4, 12), (50_000, 100), (128_000, 256), (10**7, 256)])
def test_auto_batch_size_is_two_in_a_thousand_up_to_256(examples, size):
    assert auto_batch_size(examples).value == size


@pytest.mark.parametrize(("examples", "size"), [(10, 1), (100, 1), (370, 1), (749, 1), (750, 2), (1_500, 3)])
def test_auto_batch_size_meets_what_was_observed_upstream(examples, size):
    assert auto_batch_size(examples).value == size


def test_all_auto_decides_every_number_and_says_why():
    spec, decisions = resolve(Hyperparameters(), LuthierOptions(), _facts(), max_length=512)
    assert {d.name for d in decisions} == {"n_epochs", "batch_size", "learning_rate_multiplier", "learning_rate", "rank", "alpha"}
    assert all(d.reason for d in decisions)
    assert spec.n_epochs == 3
    assert spec.learning_rate_multiplier == AUTO_MULTIPLIER
    assert (spec.lora_rank, spec.lora_alpha, spec.weight_decay) == (16, 32.0, 0.0)
    assert spec.steps_per_epoch == -(-200 // spec.batch_size)
    assert spec.total_steps == 3 * spec.steps_per_epoch
    assert 0 < spec.warmup_steps < spec.steps_per_epoch
    assert (spec.seed, spec.num_threads, spec.max_length) == (7, 2, 512)


def test_what_was_asked_for_is_taken_and_not_explained():
    asked = Hyperparameters(n_epochs=5, batch_size=2, learning_rate_multiplier=0.9)
    spec, decisions = resolve(asked, LuthierOptions(rank=4, alpha=4.0), _facts(), max_length=512)
    assert (spec.n_epochs, spec.batch_size, spec.lora_rank, spec.lora_alpha) == (5, 2, 4, 4.0)
    assert spec.learning_rate == pytest.approx(0.9 * base_rate(TuningMethod.LORA, 8_500_000, 2))
    assert {d.name for d in decisions} == {"learning_rate"}


def test_full_tuning_has_no_adapter_and_a_smaller_rate():
    full, _ = resolve(Hyperparameters(), LuthierOptions(adapter=TuningMethod.FULL), _facts(), max_length=512)
    lora, _ = resolve(Hyperparameters(), LuthierOptions(), _facts(), max_length=512)
    assert (full.lora_rank, full.lora_alpha) == (0, 0.0)
    assert full.learning_rate < lora.learning_rate


def test_a_continued_adapter_keeps_its_rank():
    spec, _ = resolve(Hyperparameters(), LuthierOptions(rank=64), _facts(parent_rank=8, parent_alpha=16.0), max_length=512)
    assert (spec.lora_rank, spec.lora_alpha) == (8, 16.0)


@pytest.mark.parametrize(
    ("asked", "model", "value"), [(None, 512, 512), (None, 100_000, 4096), (100, 512, 100), (9000, 512, 512), (9000, 10_000, 9000)]
)
def test_the_longest_example_never_exceeds_what_the_model_reads(asked, model, value):
    assert resolve_max_length(asked, model).value == value


@pytest.mark.parametrize("method", list(TuningMethod))
def test_rates_fall_with_size_and_rise_with_the_batch(method):
    by_size = [base_rate(method, n, 8) for n in (10**7, 10**8, 10**9, 4 * 10**9, 10**10, 10**11)]
    assert by_size == sorted(by_size, reverse=True)
    by_batch = [base_rate(method, 10**7, b) for b in (1, 8, 64, 256)]
    assert by_batch == sorted(by_batch)


@pytest.mark.parametrize(("parameters", "words"), [(8_524_032, "8.5 M"), (1_540_000_000, "1.5 B"), (5000, "5,000")])
def test_sizes_are_told_in_words(parameters, words):
    assert size_class(parameters) == words


@pytest.mark.parametrize(
    ("asked", "cores", "parameters", "threads"),
    [(3, 8, 10**7, 3), (0, 2, 10**7, 1), (0, 1, 10**7, 1), (0, 64, 10**7, 4), (0, 2, 10**8, 2), (0, 16, 10**9, 16)],
)
def test_threads_follow_the_setting_the_cores_and_the_size(asked, cores, parameters, threads):
    assert auto_threads(asked, cores, parameters).value == threads
