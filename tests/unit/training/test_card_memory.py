"""Memory of a GPU by arithmetic: against bytes counted by hand, a real step on a device without numbers, and two peaks that a card told."""

from dataclasses import replace

import pytest
import torch

from benchmarks.bench_gpu_training import spec_of
from benchmarks.gpu_rival import BATCH
from benchmarks.gpu_rival import rows as bench_rows
from luthier.core.specs import LoraKind, TuningMethod
from luthier.models.adapter_form import AdapterForm
from luthier.training.card_memory import (
    WORKSPACE_BYTES,
    CardJob,
    card_forecast,
    card_job,
    card_least,
    card_peak,
    card_room,
    longest_alone,
)
from luthier.training.plan import Plan, plan_run
from luthier.training.sft import ACTIVATION_BYTES
from luthier.training.work import Micro, ModelShape
from tests.support.metered import LLAMA, QWEN, QWEN_06B, QWEN_8B, metered_step, weightless
from tests.support.trainable_model import spec_for
from tests.unit.training.test_plan import rows

SHAPE = ModelShape(
    num_parameters=1_000_000,
    vocab_size=1000,
    hidden_size=64,
    num_layers=2,
    num_heads=4,
    q_size=64,
    kv_size=32,
    mlp_size=256,
    tied_head=True,
    fast=True,
)


def flat(lengths: list[int], trained: int) -> Micro:
    """Rows end to end, so many trained tokens of each."""
    return Micro(rows=len(lengths), longest=max(lengths), trained=trained * len(lengths), lengths=tuple(lengths))


def test_bytes_counted_by_hand() -> None:
    lora = CardJob(shape=SHAPE, rank=8)
    # q, k, v and o; gate, up and down: rank times both ends of each, in two blocks.
    numbers = 2 * 8 * ((64 + 64) + 2 * (64 + 32) + (64 + 64) + 3 * (64 + 256))
    assert lora.trainable == numbers
    assert lora.weights == 2_000_000
    # Fused: a stacked A and a block-diagonal B each for q k v, o, gate up and down, in bfloat16.
    fused = 2 * 8 * 2 * (3 * (64 + 64 + 2 * 32) + (64 + 64) + 2 * (64 + 2 * 256) + (256 + 64))
    assert lora.own == 4 * numbers + 8 * numbers + fused
    assert lora.gradients == 4 * numbers
    # A block keeps 4 h + 2 q + 2 kv + 4 m + 7 r numbers a token, and 2 H + 2 floats; the logits 6 bytes; three times the chosen positions.
    block = 100 * ((4 * 64 + 2 * 64 + 2 * 32 + 4 * 256 + 7 * 8) * 2 + (2 * 4 + 2) * 4)
    assert lora.activations(flat([60, 40], 20)) == 2 * block + 40 * 1000 * 6 + 3 * 40 * 64 * 2
    again = 2 * 100 * 64 * 2 + max(40 * 1000 * 6, block + 100 * 3 * (64 + 256) * 2) + 3 * 40 * 64 * 2
    assert lora.activations(flat([60, 40], 20), recomputed=True) == again
    full = CardJob(shape=SHAPE, full=True, width=4)
    assert full.weights + full.own + full.gradients == 16_000_000
    mixed = replace(full, width=2)
    assert mixed.weights + mixed.own + mixed.gradients == 16_000_000 + 2 * SHAPE.head_matrix
    packed = replace(lora, nf4=True)
    assert lora.weights - packed.weights == pytest.approx(SHAPE.layer_matrices * (2 - 4.127 / 8) - 2 * 256 * 64 * 4, rel=1e-3)


@pytest.mark.parametrize("config", [QWEN, LLAMA])
@pytest.mark.parametrize("lengths", [[300] * 4, [37, 200, 900, 1500], [2048]])
@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("kind", ["lora", "dora", "pairs", "full", "mixed"])
def test_a_step_takes_what_its_operators_keep(config: dict, lengths: list[int], recomputed: bool, kind: str) -> None:
    mixed, full = kind == "mixed", kind in ("full", "mixed")
    rank = 0 if full else 24
    dtype = torch.float32 if full else torch.bfloat16
    trained = min(lengths[0] - 1, 120)
    form = AdapterForm(dora=kind == "dora")
    seen = metered_step(
        config, lengths, trained, dtype=dtype, rank=rank, form=form, recomputed=recomputed, pairs=kind == "pairs", mixed=mixed
    )
    _, shape = weightless(config, dtype)
    width = 2 if mixed else dtype.itemsize
    job = CardJob(shape=shape, full=full, rank=rank, dora=form.dora, width=width, pairs=kind == "pairs")
    said = job.step([flat(lengths, trained)], several=False, recomputed=recomputed)
    if not full:  # the fused adapter, which is made in the step
        said += job.own - 12 * job.trainable
    elif mixed:  # the rounded head, likewise
        said += job.own - 8 * job.trainable
    print(f"{said / seen.step:.3f}")
    # Float32 attention and blocks made again are bounded from above.
    assert 0.98 * seen.step < said < (1.25 if full or recomputed else 1.02) * seen.step


def test_a_forward_without_gradients_takes_less_than_a_step() -> None:
    _, shape = weightless(QWEN, torch.bfloat16)
    job, micro = CardJob(shape=shape, rank=8), flat([700, 600], 100)
    assert 0 < job.reading(micro) < job.activations(micro, recomputed=True)


def a_run(config: dict, steps: int, **changes: object) -> tuple[Plan, CardJob]:
    """The benchmark's run of this shape on an H200."""
    data = bench_rows(steps * BATCH, 150_000, 2048)
    spec = replace(spec_of(data, "cuda"), **changes)  # type: ignore[arg-type]
    model, shape = weightless(config, torch.bfloat16)
    job = card_job(spec, shape)
    return plan_run(spec, data, None, model.facts, shape, card_room(job, 150_100_000_000)), job


@pytest.mark.parametrize(("config", "steps", "measured"), [(QWEN_8B, 10, 31.65e9), (QWEN_06B, 24, 24e9)])
def test_two_peaks_that_an_h200_told(config: dict, steps: int, measured: float) -> None:
    plan, _ = a_run(config, steps)
    assert card_peak(plan) == pytest.approx(measured, rel=0.1)


def test_a_plan_for_a_gpu_lays_rows_end_to_end_and_cuts_them_by_its_room() -> None:
    plan, job = a_run(QWEN_8B, 2)
    assert all(micro.lengths for step in plan.steps for micro in step.micros)
    assert all(micro.lengths for micro in plan.forwards())
    less = card_room(job, 24_000_000_000)
    assert less.activation_bytes == int((24_000_000_000 - job.weights) * 0.4)
    assert card_room(job, 1000).activation_bytes == ACTIVATION_BYTES
    assert not less.padded
    assert less.most_logits is None
    general = replace(job, shape=replace(job.shape, fast=False))
    assert card_room(general, 24_000_000_000).padded


def test_a_step_that_does_not_fit_is_foretold_as_it_will_be_cut() -> None:
    data = rows([(900, 400), (300, 200), (500, 20), (40, 10)] * 4)
    model, shape = weightless(QWEN, torch.bfloat16)
    spec = replace(spec_for(data, batch_size=16), device="cuda", precision="bfloat16", lora_rank=16)
    job = card_job(spec, shape)
    plan = plan_run(spec, data, None, model.facts, shape, card_room(job, 80_000_000_000))
    peak = card_peak(plan)
    alone = longest_alone(spec, shape, data)
    assert alone[0].lengths == (900,)
    least = card_least(job, alone, several=True)
    held = WORKSPACE_BYTES + job.weights + job.own
    assert least == held + job.gradients + job.activations(flat([900], 400), recomputed=True)
    assert held < least < peak
    assert card_forecast(plan, data, peak + 1).likely == peak
    between = (least + peak) // 2
    assert card_forecast(plan, data, between).likely == between
    assert card_forecast(plan, data, least - 1).likely == least
    assert card_forecast(plan, data, between).low < between < card_forecast(plan, data, between).high


def test_the_job_is_read_from_its_spec() -> None:
    data = rows([(40, 10)] * 4)
    spec = replace(spec_for(data), device="cuda", precision="bfloat16", lora_rank=16, quantization="nf4", lora_kind=LoraKind.DORA)
    job = card_job(spec, SHAPE)
    assert (job.full, job.rank, job.dora, job.width, job.nf4, job.pairs) == (False, 16, True, 2, True, False)
    full = replace(spec, method=TuningMethod.FULL, precision="float32", lora_rank=0, quantization=None)
    job = card_job(full, SHAPE)
    assert (job.full, job.dora, job.width, job.nf4) == (True, False, 4, False)


def test_the_general_path_is_padded_and_keeps_scores() -> None:
    general = CardJob(shape=replace(SHAPE, fast=False), rank=8)
    micro = Micro(rows=4, longest=500, trained=400)
    fast = CardJob(shape=SHAPE, rank=8)
    assert general.activations(micro) > fast.activations(flat([500] * 4, 100))
    assert general.reading(micro) > 0
    assert replace(general, nf4=True).weights == general.weights, "all of it is read before it is packed"
