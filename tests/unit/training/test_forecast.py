"""The forecast: its arithmetic over a plan and rates, its intervals, its memory, and what makes a job fit."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from luthier.core.forecast import Basis, Span, forecast_from_dict
from luthier.core.specs import Keep, TuningMethod
from luthier.training.cures import cures
from luthier.training.dry_run import AnswerSpeed, Measurements, Timed, dry_run
from luthier.training.forecast import (
    Line,
    Rates,
    Saving,
    assumed_rates,
    corrected,
    forecast,
    heap_growth,
    largest_activations,
    line_of,
    peak_by_dry_run,
    peak_by_formula,
    rates_of,
)
from luthier.training.plan import Plan
from luthier.training.work import KERNEL_BYTES, weight_bytes
from tests.support.trainable_model import TrainableModel
from tests.unit.training.test_plan import a_plan, rows, shape

ANSWERS = AnswerSpeed(prompt_seconds=0.001, round_seconds=0.01, single_seconds=0.005, tokens=20.0)
PEAK = Span(low=90.0, likely=100.0, high=110.0)


def flat_rates(seconds: float = 2.0, **changes: object) -> Rates:
    """Every step takes as long, nothing else takes any time."""
    plain = Rates(
        basis=Basis.DRY_RUN,
        step=Line(points=((1.0, seconds), (1e18, seconds))),
        forward=Line(points=((1e18, 1e-9),)),
        start_seconds=0.0,
        load_seconds=0.0,
        export_seconds=0.0,
        write_seconds=0.0,
        slowed=1.0,
        checkpoint_seconds=0.0,
        prompts_seconds=0.0,
        served_seconds=0.0,
        answers=None,
        width=0.1,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def made(plan, rates, **known):
    return forecast(plan, rates, peak=PEAK, available_bytes=95, saving=Saving(seconds=60.0, share=0.05), known=known)


def test_steps_times_their_seconds_is_the_time() -> None:
    found = made(a_plan(rows([(5, 2)] * 10), batch_size=3, epochs=2), flat_rates())
    assert (found.steps_per_epoch, found.total_steps, found.tokens, found.tokens_per_epoch) == (4, 8, 100, 50)
    assert found.seconds.likely == pytest.approx(16.0, rel=1e-3)
    assert found.seconds.low == pytest.approx(14.4, rel=1e-3)
    assert found.seconds.high == pytest.approx(18.4, rel=1e-3)
    assert found.seconds.likely == pytest.approx(sum(part.seconds.likely for part in found.parts))
    assert sum(bucket.steps for bucket in found.buckets) == found.steps_per_epoch
    assert forecast_from_dict(found.to_dict()) == found
    assert found.fits


def test_states_written_beside_the_steps_slow_them_and_are_waited_for() -> None:
    plan = a_plan(rows([(5, 2)] * 10), batch_size=1, epochs=2)
    plain = made(plan, flat_rates()).seconds.likely
    slow = made(plan, flat_rates(write_seconds=1.0, export_seconds=0.1, slowed=1.5, checkpoint_seconds=3.0))
    parts = {part.name: part.seconds.likely for part in slow.parts}
    # 20 steps save 20 states and two more at the epochs' ends: 22 of 40 seconds are slowed by half.
    assert parts["steps"] == pytest.approx(plain + 22 * 0.5, rel=1e-3)
    assert parts["saves"] == pytest.approx(22 * 0.1 + 2 * 3.0 + 1.0 * (1 + 0.5 * 22 / 40), rel=1e-3)


def test_evaluation_takes_both_models_answers() -> None:
    train, valid = rows([(5, 2)] * 10), rows([(6, 3)] * 16)
    parts = {part.name: part.seconds for part in made(a_plan(train, valid), flat_rates(answers=ANSWERS, served_seconds=1.0)).parts}
    # Two rounds of eight questions: the base speaks 20 tokens, the tuned model the 3 that are expected.
    assert parts["evaluation"].likely == pytest.approx(2 * 96 * 0.001 + 1.0 + 2 * 0.01 * (20 + 3), rel=1e-3)
    assert parts["evaluation"].low < parts["evaluation"].likely < parts["evaluation"].high
    # The evaluation has loaded the model.
    assert parts["deployment"].likely == pytest.approx(1.6 * 20 * 0.005)
    tuned_alone = flat_rates(answers=ANSWERS, served_seconds=1.0)
    for method, loads in ((TuningMethod.LORA, 1), (TuningMethod.FULL, 2)):
        parts = {part.name: part.seconds for part in made(a_plan(train, method=method), tuned_alone).parts}
        assert parts["deployment"].likely == pytest.approx(loads * 1.0 + 1.6 * 20 * 0.005)
    alone = {part.name: part.seconds for part in made(a_plan(train), flat_rates(answers=ANSWERS)).parts}
    assert alone["evaluation"].high == 0.0


def test_prompts_are_asked_before_the_first_step_and_after_each_epoch() -> None:
    plan = a_plan(rows([(5, 2)] * 4), epochs=3)
    (prompts,) = [part.seconds.likely for part in made(plan, flat_rates(prompts_seconds=1.5)).parts if part.name == "prompts"]
    assert prompts == pytest.approx(4 * 1.5)


def test_the_last_prompts_are_asked_while_the_model_is_deployed() -> None:
    plan = a_plan(rows([(5, 2)] * 4), epochs=3)

    def prompts(plan: Plan, served_seconds: float) -> float:
        found = made(plan, flat_rates(prompts_seconds=1.5, served_seconds=served_seconds)).parts
        return next(part.seconds.likely for part in found if part.name == "prompts")

    assert prompts(plan, 0.4) == pytest.approx(3 * 1.5 + 1.1)
    assert prompts(plan, 2.0) == pytest.approx(3 * 1.5)
    # An earlier epoch's weights may be the model: who answers is known after they are back.
    assert prompts(replace(plan, spec=replace(plan.spec, keep=Keep.BEST)), 2.0) == pytest.approx(4 * 1.5)


def test_what_is_over_is_taken_as_it_was() -> None:
    found = made(a_plan(rows([(5, 2)] * 4)), flat_rates(start_seconds=9.0), start=2.5)
    (start,) = [part.seconds for part in found.parts if part.name == "start"]
    assert start == Span(low=2.5, likely=2.5, high=2.5)


def test_a_range_test_takes_its_steps_time_and_a_forward_each() -> None:
    plan = a_plan(rows([(5, 2)] * 10), batch_size=3, epochs=2)
    plan = replace(plan, spec=replace(plan.spec, range_steps=20))
    rates = flat_rates(forward=Line(points=((1.0, 0.5), (1e18, 0.5))))
    found = made(plan, rates)
    parts = {part.name: part.seconds.likely for part in found.parts}
    assert parts["range_test"] == pytest.approx(20 * (2.0 + 0.5), rel=1e-3), "more steps than the run has: its rows are read again"
    assert parts["steps"] == pytest.approx(16.0, rel=1e-3)
    known = {part.name: part.seconds.likely for part in made(plan, rates, range_test=7.0).parts}
    assert known["range_test"] == 7.0


def test_the_line_goes_through_what_was_measured_and_on() -> None:
    line = line_of([Timed(work=w, seconds=1.0 + w / 10) for w in (10.0, 20.0, 30.0, 40.0)])
    assert [line.at(w) for w in (10, 25, 40, 80)] == pytest.approx([2.0, 3.5, 5.0, 9.0])
    assert line.at(0.0) == pytest.approx(1.0)
    assert line_of([Timed(work=10.0, seconds=2.0)]).at(30.0) == pytest.approx(6.0)
    with pytest.raises(ValueError, match="Nothing"):
        line_of([])


@given(st.lists(st.tuples(st.floats(1e6, 1e12), st.floats(1e-4, 1e3)), min_size=1, max_size=12))
@example([(100.0, 1.0), (103.0, 5.0), (104.0, 0.1)])
@example([(100.0, 0.001), (103.0, 5.0)])
def test_more_work_never_takes_less_time_however_disturbed_the_measurements_were(measured: list[tuple[float, float]]) -> None:
    line = line_of([Timed(work=work, seconds=seconds) for work, seconds in measured])
    longest = max(work for work, _ in measured)
    times = [line.at(longest * share) for share in (0.0, 0.3, 0.9, 1.0, 1.1, 3.0, 100.0)]
    assert times[0] >= 0
    assert all(now <= then * (1 + 1e-9) for now, then in pairwise(times))
    assert times[-1] <= 201 * line.at(longest)


def test_the_jobs_own_steps_correct_the_forecast() -> None:
    plan = a_plan(rows([(5, 2)] * 40), batch_size=4)
    first = assumed_rates(plan, operations_per_second=1e3, start_seconds=1.0)
    steps = [Timed(work=step.work, seconds=0.5) for step in plan.steps[:6]]
    found = made(plan, corrected(first, steps))
    (share,) = [part.seconds.likely for part in found.parts if part.name == "steps"]
    assert found.basis is Basis.STEPS
    assert share == pytest.approx(0.5 * plan.spec.total_steps, rel=0.35)
    assert made(plan, first).basis is Basis.FORMULA


def test_memory_grows_with_what_is_held() -> None:
    train = rows([(12, 4)] * 8)
    adapter = peak_by_formula(a_plan(train), process_bytes=1000)
    longer = peak_by_formula(a_plan(rows([(60, 4)] * 8)), process_bytes=1000)
    more = peak_by_formula(a_plan(train), process_bytes=5000)
    assert longer.likely > adapter.likely
    assert more.likely == pytest.approx(adapter.likely + 4000)
    assert adapter.low < adapter.likely < adapter.high


def test_blocks_made_again_take_less_memory() -> None:
    facts = replace(TrainableModel().facts, hidden_size=1024, num_layers=8)
    plain = replace(a_plan(rows([(256, 250)] * 8)), shape=shape(facts, **BIG))
    again = replace(plain, spec=replace(plain.spec, gradient_checkpointing=True))
    (micro,) = plain.steps[0].micros
    assert again.activations(micro) < 0.5 * plain.activations(micro)
    assert again.activations(micro) > micro.padded * 8 * 1024 * 4
    assert peak_by_formula(again, process_bytes=1000).likely < peak_by_formula(plain, process_bytes=1000).likely


def test_a_base_in_4_bits_takes_less_memory_and_more_time() -> None:
    facts = replace(TrainableModel().facts, hidden_size=1024, num_layers=8)
    large = shape(facts, **BIG)
    plain = replace(a_plan(rows([(12, 4)] * 8)), shape=large)
    packed = replace(plain, spec=replace(plain.spec, quantization="nf4"))
    kept = 120_000_000 - large.layer_matrices
    unpacked_once = 2 * 4096 * 1024 * 4
    assert weight_bytes(large, nf4=True) == pytest.approx(4 * kept + 4.127 / 8 * large.layer_matrices + unpacked_once, rel=1e-3)
    saved = peak_by_formula(plain, process_bytes=1000).likely - peak_by_formula(packed, process_bytes=1000).likely
    # What multiplies has no copies in two more layouts either.
    assert saved > 3 * 4 * large.layer_matrices * 0.9
    assert weight_bytes(replace(large, fast=False), nf4=True) == weight_bytes(large), "the general path reads all of it first"
    slow, quick = (assumed_rates(p, operations_per_second=1e11, start_seconds=0.0) for p in (packed, plain))
    assert slow.step.at(1.0) > quick.step.at(1.0)
    assert slow.forward.at(1.0) > quick.forward.at(1.0)


def test_a_process_grows_by_routines_it_has_not_made_yet() -> None:
    grown = [(10 * n, 1_000_000 + 200_000 * n) for n in range(1, 11)]
    assert heap_growth(grown, 150) == pytest.approx(20_000 * 50)
    assert heap_growth([(10 * n, 1_000_000) for n in range(1, 11)], 150) == pytest.approx(0.0, abs=1.0)
    assert heap_growth(grown, 100) == 0.0
    assert heap_growth(grown, 100_000) == grown[-1][1] - grown[2][1]
    assert heap_growth(grown[:4], 60) == KERNEL_BYTES * 20
    assert heap_growth([], 60) == 0.0


@pytest.mark.parametrize("method", list(TuningMethod))
@pytest.mark.parametrize("held_out", [True, False])
def test_a_dry_run_measures_everything_and_changes_no_weight(tmp_path: Path, method: TuningMethod, held_out: bool) -> None:
    train, valid = rows([(4 + n % 7, 2) for n in range(20)]), rows([(6, 2)] * 5) if held_out else None
    plan = a_plan(train, valid, method=method)
    model = TrainableModel()
    if method is TuningMethod.FULL:
        model.save_full = lambda folder: None  # type: ignore[method-assign]
    else:
        model.save_adapter = lambda name, folder, *, base_name: None  # type: ignore[method-assign]
    measured = dry_run(model, plan, train, valid, tmp_path, seconds=0.2)
    assert len(measured.steps) >= 4
    assert all(timed.seconds > 0 and timed.work > 0 for timed in (*measured.steps, *measured.forwards))
    # On a busy machine a large step is cut to some of its rows.
    assert 0 < measured.peak_activations <= largest_activations(plan)
    assert measured.peak_bytes > 10_000_000
    assert (tmp_path / "resume").is_dir()
    assert (model.all_parameters()[0] == TrainableModel().all_parameters()[0]).all()
    found = made(plan, rates_of(measured, start_seconds=1.0, load_seconds=0.5))
    assert found.seconds.low < found.seconds.likely < found.seconds.high
    assert peak_by_dry_run(plan, measured).likely >= measured.peak_bytes


def test_largest_forwards_that_were_not_run_are_added() -> None:
    plan = a_plan(rows([(30, 4)] * 4), method=TuningMethod.FULL)
    nothing = Measurements(
        steps=(),
        forwards=(),
        first_extra_seconds=0,
        export_seconds=0,
        write_seconds=0,
        slowed=1,
        checkpoint_seconds=0,
        prompts_seconds=0,
        served_seconds=0,
        answers=None,
        peak_bytes=1000,
        peak_activations=0,
    )
    assert peak_by_dry_run(plan, nothing).likely == 1000 + max(plan.activations(m) for m in plan.steps[0].micros)


BIG = {"num_layers": 8, "hidden_size": 1024, "q_size": 1024, "kv_size": 1024, "mlp_size": 4096, "num_parameters": 120_000_000}


def some_cures(
    method: TuningMethod,
    available: int,
    *,
    batch_size: int = 4,
    process: int = 0,
    trained: int = 250,
    packs: bool = False,
    device: str = "cpu",
):
    train = rows([(256, trained)] * 8)
    facts = replace(TrainableModel().facts, hidden_size=1024, num_layers=8)
    spec = replace(a_plan(train, method=method, batch_size=batch_size).spec, max_length=4096, lora_rank=0 if method == "full" else 64)
    spec = replace(spec, device=device, precision="bfloat16" if device == "cuda" and method == "lora" else "float32")
    large = shape(facts, **BIG)
    return cures(spec, train, facts, large, process_bytes=process, available_bytes=available, factor=1.0, packs=packs)


def test_adapters_fit_where_all_weights_do_not() -> None:
    found = some_cures(TuningMethod.FULL, 3_500_000_000)
    assert [name for cure in found for name, _ in cure.changes] == ["adapter"]
    assert found[0].sentence().startswith('adapter "lora" (')
    assert found[0].peak_bytes <= 3_500_000_000


def test_shorter_rows_and_fewer_at_once_are_computed() -> None:
    # The job holds 1.94 GB whatever its rows are; its four longest ones take 0.91 GB, half as many or half as long ones half of it.
    found = some_cures(TuningMethod.LORA, 2_400_000_000)
    assert [dict(cure.changes) for cure in found] == [{"max_length": "128"}, {"batch_size": "2"}, {"gradient_checkpointing": "true"}]
    found = found[:2]
    assert all(2_300_000_000 < cure.peak_bytes <= 2_400_000_000 for cure in found)
    more = some_cures(TuningMethod.LORA, 2_600_000_000)
    assert int(dict(more[0].changes)["max_length"]) > 128


def test_where_one_change_is_too_little_two_are_named() -> None:
    (pair,) = some_cures(TuningMethod.LORA, 2_000_000_000)
    assert [name for name, _ in pair.changes] == ["rank", "max_length"]
    assert pair.peak_bytes <= 2_000_000_000
    assert pair.sentence() == f"rank 32 and max_length {dict(pair.changes)['max_length']} ({pair.peak_bytes / 1e9:.1f} GB)"


def test_rows_that_would_lose_all_they_teach_are_not_shortened() -> None:
    found = some_cures(TuningMethod.LORA, 2_400_000_000, trained=20)
    assert [name for cure in found for name, _ in cure.changes] == ["batch_size", "gradient_checkpointing"]


def test_where_nothing_helps_nothing_is_promised() -> None:
    assert some_cures(TuningMethod.FULL, 1_000_000) == ()


def changes(found) -> list[dict[str, str]]:
    return [dict(cure.changes) for cure in found]


def test_a_base_in_4_bits_is_named_where_the_server_has_it_and_it_helps() -> None:
    assert {"quantization": '"nf4"'} in changes(some_cures(TuningMethod.LORA, 2_400_000_000, packs=True))
    # Without it two changes are needed; with it that one is enough.
    (cure,) = some_cures(TuningMethod.LORA, 2_000_000_000, packs=True)
    assert cure.sentence() == f'quantization "nf4" ({cure.peak_bytes / 1e9:.1f} GB)'
    assert cure.peak_bytes < 2_000_000_000
    (cure,) = some_cures(TuningMethod.FULL, 1_300_000_000, packs=True)
    assert dict(cure.changes) == {"adapter": '"lora"', "quantization": '"nf4"'}
    (cure,) = some_cures(TuningMethod.LORA, 1_000_000_000, packs=True)
    assert list(dict(cure.changes)) == ["quantization", "max_length"]
    assert some_cures(TuningMethod.LORA, 100_000_000, packs=True) == ()


def test_on_a_gpu_what_counts_is_the_longest_row_alone() -> None:
    # 120 million numbers in bfloat16, and an adapter of rank 64: 0.24 GB, and 0.25 for it to learn.
    enough = some_cures(TuningMethod.LORA, 3_000_000_000, device="cuda")[0]
    assert enough.peak_bytes < 700_000_000
    least = 0.9 * enough.peak_bytes
    found = some_cures(TuningMethod.LORA, int(least), device="cuda", packs=True)
    assert {"quantization": '"nf4"'} in changes(found)
    assert {"rank": "32"} in changes(found)
    assert not [name for each in changes(found) for name in each if name in ("batch_size", "gradient_checkpointing")]
    full = some_cures(TuningMethod.FULL, 1_000_000_000, device="cuda", packs=True)
    assert changes(full) == [{"adapter": '"lora"'}]
    packed = some_cures(TuningMethod.FULL, 330_000_000, device="cuda", packs=True)
    assert changes(packed) == [{"adapter": '"lora"', "quantization": '"nf4"'}]
    assert some_cures(TuningMethod.FULL, 1_000_000, device="cuda", packs=True) == ()
