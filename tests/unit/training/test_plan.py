"""The plan says exactly what the trainer then does, for any lengths, batch size and number of epochs."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.core.examples import SourceLine
from luthier.core.specs import LoraKind, TuningMethod
from luthier.core.tokens import Rendered, TokenizedExample
from luthier.models.adapter_form import AdapterForm
from luthier.models.facts import ModelFacts, read_config
from luthier.preprocessing.stage import Prepared
from luthier.training.forecast import assumed_rates
from luthier.training.loop import Trainer
from luthier.training.plan import Plan, plan_run
from luthier.training.work import ModelShape, kernel_count, micro_of, shape_of
from tests.support.mini import MINI, load_mini
from tests.support.trainable_model import Recorder, TrainableModel, spec_for


def rows(lengths: list[tuple[int, int]]) -> Prepared:
    """Rows of (tokens, trained tokens at the end)."""
    examples = []
    for line, (length, trained) in enumerate(lengths, 1):
        weights = np.zeros(length, dtype=np.float32)
        weights[-trained:] = 1.0
        rendered = Rendered(ids_T=np.arange(1, length + 1) % 19, weights_T=weights)
        examples.append(TokenizedExample(source=SourceLine("file-A", line), rendered=rendered))
    return Prepared(
        examples=tuple(examples), num_tokens=sum(n for n, _ in lengths), num_trained=sum(t for _, t in lengths), num_truncated=0
    )


def shape(facts: ModelFacts, **changes: object) -> ModelShape:
    """A plausible shape for a model that is none."""
    plain = ModelShape(
        num_parameters=facts.num_parameters,
        vocab_size=facts.vocab_size,
        hidden_size=facts.hidden_size,
        num_layers=facts.num_layers,
        num_heads=2,
        q_size=facts.hidden_size,
        kv_size=facts.hidden_size,
        mlp_size=2 * facts.hidden_size,
        tied_head=True,
        fast=True,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def a_plan(train: Prepared, valid: Prepared | None = None, *, method: TuningMethod = TuningMethod.LORA, **numbers: int) -> Plan:
    """The plan of a small run of ``TrainableModel``."""
    facts = TrainableModel().facts
    return plan_run(spec_for(train, method=method, **numbers), train, valid, facts, shape(facts))


LENGTHS = st.lists(st.integers(2, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1))), min_size=1, max_size=14)


@settings(max_examples=25, deadline=None)
@given(LENGTHS, st.integers(1, 5), st.integers(1, 3), st.booleans())
def test_counts_are_what_training_then_does(lengths: list[tuple[int, int]], batch_size: int, epochs: int, held_out: bool) -> None:
    train, valid = rows(lengths), rows(lengths[:3]) if held_out else None
    plan = a_plan(train, valid, batch_size=batch_size, epochs=epochs)
    hooks = Recorder()
    with tempfile.TemporaryDirectory() as folder:
        result = Trainer(TrainableModel(), plan.spec, train, valid, hooks, Path(folder)).run()
    assert plan.spec.total_steps == len(plan.steps) == result.steps == len(hooks.steps)
    assert plan.tokens_per_epoch * epochs == result.tokens_seen
    assert plan.trained_per_epoch * epochs == result.trained_tokens
    lines = [tuple(sorted(train.examples[i].source.line for i in step.indices)) for step in plan.steps]
    assert lines == [step.lines for step in hooks.steps]
    assert [sum(micro.trained for micro in step.micros) for step in plan.steps] == [step.num_tokens for step in hooks.steps]
    assert len(plan.checks) == sum(step.valid_loss is not None for step in hooks.steps)


def test_a_step_is_cut_as_the_trainer_cuts_it() -> None:
    train = rows([(8, 2)] * 6)
    facts = replace(TrainableModel().facts, hidden_size=500_000)
    plan = plan_run(spec_for(train, batch_size=6), train, None, facts, shape(facts))
    assert [(micro.rows, micro.padded) for micro in plan.steps[0].micros] == [(3, 24), (3, 24)]


def test_more_tokens_are_more_work_and_all_weights_are_more_than_an_adapter() -> None:
    train = rows([(3, 1), (12, 4)])
    lora, full = a_plan(train, batch_size=1), a_plan(train, batch_size=1, method=TuningMethod.FULL)
    short, long = sorted(lora.first_epoch, key=lambda step: step.longest)
    assert short.work < long.work
    assert [step.work for step in full.steps] == [1.5 * step.work for step in lora.steps]


def test_doras_numbers_are_those_of_its_adapter_and_its_memory_is_more_than_loras() -> None:
    train, plain = rows([(40, 10)] * 8), AdapterForm()
    model = load_mini()
    base = shape_of(read_config(MINI), model.facts)
    for targets in ((), ("q_proj", "down_proj")):
        for kind, form in ((LoraKind.LORA, plain), (LoraKind.DORA, AdapterForm(dora=True))):
            name = f"{kind.value}-{len(targets)}"
            model.add_adapter(name, rank=4, alpha=8.0, seed=1, form=replace(form, targets=targets))
            spec = replace(spec_for(train), lora_kind=kind, targets=targets)
            plan = plan_run(spec, train, None, model.facts, base)
            assert plan.trainable == sum(p.numel() for p in model.adapter_parameters(name))
    lora, dora = (plan_run(replace(spec_for(train), lora_kind=k), train, None, model.facts, base) for k in (LoraKind.LORA, LoraKind.DORA))
    micro = lora.steps[0].micros[0]
    kept = micro.padded * base.num_layers * base.outputs * 4
    assert kept < dora.activations(micro) - lora.activations(micro) < 2 * kept + 10_000_000
    assert dora.forward_activations(micro) == lora.forward_activations(micro)
    assert (lora.norm_work, dora.norm_work > 0) == (0.0, True)
    lora_rates, dora_rates = (assumed_rates(plan, operations_per_second=1e10, start_seconds=0.0) for plan in (lora, dora))
    assert dora_rates.step.at(1e9) > lora_rates.step.at(1e9)


def test_routines_are_counted_by_different_numbers_of_rows() -> None:
    train = rows([(3, 1), (3, 2), (5, 2)])
    micros = [micro_of([index], train.examples) for index in range(3)]
    # Two numbers of tokens and two of trained ones: eight routines for each of the first, two for each of the second.
    assert kernel_count(micros, []) == 2 * 8 + 2 * 2
    assert kernel_count(micros, micros) == kernel_count(micros, [])
    assert kernel_count([], micros) == kernel_count(micros, []) // 2


@given(LENGTHS, st.integers(1, 5))
@settings(deadline=None, max_examples=30)
def test_a_packed_plan_has_the_steps_of_the_unpacked_one_with_less_work_and_memory(lengths, batch_size):
    train = rows(lengths)
    facts = TrainableModel().facts
    spec = spec_for(train, batch_size=batch_size, epochs=2)
    plain = plan_run(spec, train, None, facts, shape(facts))
    packed = plan_run(replace(spec, packing=True), train, None, facts, shape(facts))
    assert [sorted(step.indices) for step in packed.steps] == [sorted(step.indices) for step in plain.steps]
    for ours, theirs in zip(packed.steps, plain.steps, strict=True):
        assert sum(micro.padded for micro in ours.micros) == sum(train.examples[row].num_tokens for row in ours.indices)
        assert sum(micro.trained for micro in ours.micros) == sum(micro.trained for micro in theirs.micros)
        assert ours.work <= theirs.work
    assert packed.base == plain.base
    assert packed.epoch_end == plain.epoch_end
