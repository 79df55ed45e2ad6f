"""Every "auto" becomes the documented number, with a reason."""

import json

import pytest

from luthier.core.specs import (
    Hyperparameters,
    Keep,
    LoraKind,
    LuthierOptions,
    OptimizerName,
    Schedule,
    TuningMethod,
    options_from,
    spec_from_dict,
)
from luthier.training.rates import AUTO_MULTIPLIER, OPTIMIZER_FACTORS, base_rate, size_class
from luthier.training.resolve import RunFacts, auto_batch_size, auto_epochs, auto_threads, resolve, resolve_max_length

IDENTITY = "2d29fba3823cbbb7e38e86545f5328289244c0142dd02d8e495b772ecc010cb4"


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
    assert {d.name for d in decisions} == {
        "n_epochs",
        "batch_size",
        "learning_rate_multiplier",
        "learning_rate",
        "rank",
        "alpha",
        "packing",
    }
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
    assert {d.name for d in decisions} == {"learning_rate", "packing"}


@pytest.mark.parametrize(
    ("asked", "device", "end_to_end", "packing", "word"),
    [
        ("auto", "cpu", True, False, "CPU"),
        ("auto", "cuda:0", True, True, "GPU"),
        ("auto", "cuda:0", False, False, "general path"),
        ("on", "cpu", True, True, "As asked"),
        ("off", "cuda:0", True, False, "As asked"),
    ],
)
def test_packing_is_chosen_by_the_device_unless_it_was_asked_for(asked, device, end_to_end, packing, word):
    facts = _facts(device=device, end_to_end=end_to_end)
    spec, decisions = resolve(Hyperparameters(), LuthierOptions(packing=asked), facts, max_length=512)
    (decision,) = [d for d in decisions if d.name == "packing"]
    assert (spec.packing, decision.value) == (packing, "on" if packing else "off")
    assert word in decision.reason


@pytest.mark.parametrize(
    ("batch_size", "used", "word"),
    [
        (1, ("cuda:0",), "a step has 1 example"),
        (2, ("cuda:0", "cuda:1"), "a step has 2 examples"),
        (8, ("cuda:0", "cuda:1", "cuda:2"), "dealt"),
    ],
)
def test_no_more_devices_have_a_part_in_a_step_than_it_has_examples(batch_size, used, word):
    facts = _facts(device="cuda:0", more_devices=("cuda:1", "cuda:2"))
    spec, decisions = resolve(Hyperparameters(batch_size=batch_size), LuthierOptions(), facts, max_length=512)
    (decision,) = [d for d in decisions if d.name == "devices"]
    assert ((spec.device, *spec.more_devices), decision.value) == (used, ", ".join(used))
    assert word in decision.reason
    assert spec_from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_spec_from_before_there_were_several_devices_has_one_and_its_old_identity():
    spec, _ = resolve(Hyperparameters(), LuthierOptions(), _facts(), max_length=512)
    older = json.loads(json.dumps(spec.to_dict()))
    del older["more_devices"]
    assert spec_from_dict(older).more_devices == ()
    assert spec_from_dict(older).identity() == spec.identity()


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


def _decided(decisions, name):
    (found,) = [d for d in decisions if d.name == name]
    return found


def test_the_adapters_kind_and_layers_are_decided_and_explained():
    options = options_from({"adapter": "rslora", "rank": 16, "alpha": 16.0, "targets": ["attention"]})
    assert (options.adapter, options.kind, options.targets) == (TuningMethod.LORA, LoraKind.RSLORA, ("attention",))
    spec, decisions = resolve(Hyperparameters(), options, _facts(targets=("q_proj", "v_proj")), max_length=512)
    assert (spec.lora_kind, spec.targets) == (LoraKind.RSLORA, ("q_proj", "v_proj"))
    assert "= 4 instead of alpha / rank = 1" in _decided(decisions, "adapter").reason
    assert _decided(decisions, "targets").value == "q_proj, v_proj"
    assert spec_from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_dora_is_explained_and_learns_at_loras_rate():
    options = options_from({"adapter": "dora"})
    assert (options.adapter, options.kind) == (TuningMethod.LORA, LoraKind.DORA)
    spec, decisions = resolve(Hyperparameters(), options, _facts(), max_length=512)
    plain, _ = resolve(Hyperparameters(), LuthierOptions(), _facts(), max_length=512)
    assert (spec.lora_kind, spec.learning_rate, spec.lora_rank) == (LoraKind.DORA, plain.learning_rate, plain.lora_rank)
    assert spec.identity() != plain.identity()
    assert "arXiv:2402.09353" in _decided(decisions, "adapter").reason
    assert spec_from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_continued_adapter_keeps_its_kind_and_layers():
    facts = _facts(parent_rank=8, parent_alpha=16.0, parent_kind=LoraKind.RSLORA, targets=("q_proj",))
    spec, decisions = resolve(Hyperparameters(), options_from({"targets": "attention"}), facts, max_length=512)
    assert (spec.lora_kind, spec.targets) == (LoraKind.RSLORA, ())
    assert any("cannot change" in d.reason for d in decisions if d.name == "adapter")


def test_options_as_asked_become_options():
    assert options_from({}) == LuthierOptions() == options_from({"adapter": None, "rank": None})
    assert options_from({"adapter": "full"}).adapter is TuningMethod.FULL
    assert options_from({"targets": "mlp", "alpha": 3.0}) == LuthierOptions(targets=("mlp",), alpha=3.0)


def test_a_spec_at_its_defaults_has_the_identity_that_it_had_before_the_newer_options():
    spec, _ = resolve(Hyperparameters(), LuthierOptions(), _facts(), max_length=512)
    assert spec.identity() == IDENTITY


def test_a_base_in_4_bits_is_another_run():
    plain, _ = resolve(Hyperparameters(), LuthierOptions(), _facts(), max_length=512)
    spec, decisions = resolve(Hyperparameters(), options_from({"quantization": "nf4"}), _facts(), max_length=512)
    assert (plain.quantization, spec.quantization) == (None, "nf4")
    assert spec.identity() != plain.identity()
    assert spec_from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert "2305.14314" in _decided(decisions, "quantization").reason


def test_schedule_optimizer_and_numbers_are_taken_and_explained():
    asked = {"schedule": "cosine", "min_rate_ratio": 0.1, "optimizer": "lion", "weight_decay": 0.3, "beta1": 0.8, "max_grad_norm": 0.5}
    spec, decisions = resolve(Hyperparameters(), options_from(asked), _facts(), max_length=512)
    assert (spec.schedule, spec.min_rate_ratio, spec.optimizer) == (Schedule.COSINE, 0.1, OptimizerName.LION)
    assert (spec.weight_decay, spec.adam_beta1, spec.adam_beta2, spec.max_grad_norm) == (0.3, 0.8, 0.99, 0.5)
    assert "0.1 of the peak" in _decided(decisions, "schedule").reason
    assert "lora tuning with lion of a model" in _decided(decisions, "learning_rate").reason
    assert {"optimizer", "weight_decay", "beta1", "max_grad_norm"} <= {d.name for d in decisions}
    assert spec_from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.learning_rate == pytest.approx(OPTIMIZER_FACTORS[OptimizerName.LION] * resolve_rate(), rel=1e-9)


def resolve_rate() -> float:
    return resolve(Hyperparameters(), LuthierOptions(), _facts(), max_length=512)[0].learning_rate


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        ({"warmup_steps": 7}, 7),
        ({"warmup_steps": 0}, 0),
        ({"warmup_steps": 10**6}, 599),
        ({"warmup_ratio": 0.25}, 150),
        ({"warmup_ratio": 0.0}, 0),
    ],
)
def test_the_warm_up_is_as_asked_and_leaves_a_step_for_the_peak(asked, steps):
    spec, decisions = resolve(Hyperparameters(batch_size=1, n_epochs=3), options_from(asked), _facts(), max_length=512)
    assert (spec.total_steps, spec.warmup_steps) == (600, steps)
    assert _decided(decisions, "warmup_steps").value == steps


def _kept(asked, *, held_out: bool = True):
    facts = _facts(validation_fingerprint="v" if held_out else None)
    return resolve(Hyperparameters(), options_from(asked), facts, max_length=512)


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({"early_stopping": True}, (Keep.BEST, 1, 0.0)),
        ({"early_stopping": {}}, (Keep.BEST, 1, 0.0)),
        ({"early_stopping": {"patience": 3, "min_delta": 0.02}}, (Keep.BEST, 3, 0.02)),
        ({"early_stopping": True, "keep": "last"}, (Keep.LAST, 1, 0.0)),
        ({"keep": "best"}, (Keep.BEST, 0, 0.0)),
        ({"early_stopping": False}, (Keep.LAST, 0, 0.0)),
        ({}, (Keep.LAST, 0, 0.0)),
    ],
)
def test_an_early_end_and_the_kept_epoch_are_decided_and_explained(asked, kept):
    spec, decisions = _kept(asked)
    assert (spec.keep, spec.patience, spec.min_delta) == kept
    assert [d.name for d in decisions if d.name == "early_stopping"] == ["early_stopping"] * bool(kept[1])
    assert [d.value for d in decisions if d.name == "keep"] == [kept[0].value] * (kept != (Keep.LAST, 0, 0.0))
    assert spec_from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_without_held_out_rows_nothing_is_chosen_by_them():
    spec, decisions = _kept({"early_stopping": True}, held_out=False)
    assert (spec.keep, spec.patience) == (Keep.LAST, 0)
    assert "no validation file" in _decided(decisions, "keep").reason


def test_noise_and_weighted_prompts_are_taken_and_explained_and_without_them_a_runs_identity_stays():
    spec, decisions = _kept({"neftune_alpha": 5, "prompt_loss_weight": 0.1})
    assert (spec.neftune_alpha, spec.prompt_loss_weight) == (5, 0.1)
    assert "arXiv:2310.05914" in _decided(decisions, "neftune_alpha").reason
    assert "of the answers alone" in _decided(decisions, "prompt_loss_weight").reason
    assert spec_from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    plain, said = _kept({"prompt_loss_weight": 0})
    assert not {"neftune_alpha", "prompt_loss_weight"} & {d.name for d in said}
    assert plain.identity() == _kept({})[0].identity() != spec.identity()


def test_blocks_made_again_are_asked_for_and_explained():
    spec, decisions = _kept({"gradient_checkpointing": True})
    assert spec.gradient_checkpointing
    assert "arXiv:1604.06174" in _decided(decisions, "gradient_checkpointing").reason
    assert spec_from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    plain, said = _kept({"gradient_checkpointing": False})
    assert "gradient_checkpointing" not in {d.name for d in said}
    assert plain.identity() == _kept({})[0].identity() != spec.identity()


def test_what_becomes_of_a_step_that_goes_wrong_is_taken_and_explained():
    spec, decisions = _kept({"max_skipped_steps": 0, "on_loss_spike": "halve"})
    assert (spec.max_skipped_steps, spec.halve_on_spike) == (0, True)
    assert {"max_skipped_steps", "on_loss_spike"} <= {d.name for d in decisions}
    plain, _ = _kept({})
    assert (plain.max_skipped_steps, plain.halve_on_spike) == (5, False)
