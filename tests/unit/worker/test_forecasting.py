"""A job's forecast: made, corrected by its steps, checked at its end; and refused with what would help where it does not fit. On a GPU the
memory alone, as a stand-in tells it here."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from luthier.core.errors import JobFailure, Unavailable
from luthier.core.forecast import Basis, Span, forecast_from_dict
from luthier.core.jobs import JobStatus
from luthier.models.device import Placement
from luthier.trace.events import ForecastChecked, Forecasted, Notice, StepDone, TraceEvent
from luthier.trace.projections import JobEventProjection
from luthier.training.cures import Cure
from luthier.training.resolve import resolve_max_length
from luthier.worker import forecasting
from luthier.worker.context import RunContext
from luthier.worker.forecasting import JobForecaster, MemoryThere, refusal
from luthier.worker.machine import DeviceMemory
from luthier.worker.pipelines import collect_files, preprocess, resolve_spec
from luthier.worker.start import find_start, options_of
from tests.support.trainable_model import spec_for
from tests.unit.training.test_plan import rows
from tests.unit.worker.test_pause_checkpoint import TOTAL, Shop


def test_a_job_that_does_not_fit_is_refused_before_its_model_is_loaded(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.settings = replace(shop.settings, train_memory_bytes=1_000_000)
    seen: list[TraceEvent] = []
    with pytest.raises(JobFailure) as refused:
        shop.attempt(seen.append)
    assert refused.value.code == "insufficient_memory"
    assert refused.value.param is None
    # The figure holds what this process takes already, and that differs.
    assert re.match(r"This job is forecast to need \d+\.\d GB of memory; ", refused.value.message)
    assert "0.0 GB are available for training. No change of the job's own settings fits. Free memory" in refused.value.message
    assert not [e for e in seen if isinstance(e.payload, Forecasted | StepDone)]


def test_the_refusal_names_what_would_fit() -> None:
    found = (
        Cure(changes=(("adapter", '"lora"'),), peak_bytes=3_100_000_000),
        Cure(changes=(("batch_size", "1"), ("max_length", "1024")), peak_bytes=2_900_000_000),
    )
    there = MemoryThere(process_bytes=1, available_bytes=4_000_000_000, card=None)
    peak = Span(low=8e9, likely=9.13e9, high=1e10)
    assert refusal(peak, there, found) == (
        "This job is forecast to need 9.1 GB of memory; 4.0 GB are available for training. It would fit with "
        'adapter "lora" (3.1 GB), or batch_size 1 and max_length 1024 (2.9 GB). Or free memory on the server, or raise '
        "LUTHIER_TRAIN_MEMORY_BYTES where that is the limit."
    )
    card = DeviceMemory(device="cuda:1", name="NVIDIA X", total_bytes=24_000_000_000, free_bytes=4_900_000_000, held_bytes=0)
    assert refusal(peak, replace(there, card=card), found[:1]) == (
        "This job is forecast to need 9.1 GB of memory on cuda:1 (NVIDIA X), even with each row alone and blocks made again on the way "
        'back; 4.0 GB of the device\'s 24.0 are available for training. It would fit with adapter "lora" (3.1 GB). Or free memory on the '
        "device, or name another one with LUTHIER_DEVICE."
    )


def test_a_run_tells_its_forecast_first_and_corrects_it_by_its_steps(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    seen: list[TraceEvent] = []
    with pytest.raises(Unavailable):  # there is no engine to evaluate with
        shop.attempt(seen.append)
    kinds = [type(e.payload) for e in seen]
    first, second = [e.payload for e in seen if isinstance(e.payload, Forecasted)]
    assert kinds.index(Forecasted) < kinds.index(StepDone)
    made, better = forecast_from_dict(first.forecast), forecast_from_dict(second.forecast)
    assert (made.basis, better.basis) == (Basis.FORMULA, Basis.STEPS)
    assert made.total_steps == better.total_steps == TOTAL
    assert made.tokens == better.tokens
    assert made.seconds.likely > 0
    assert made.fits
    # Nothing is compared before the job's end.
    assert ForecastChecked not in kinds
    # Through the projection, not from the database: an attempt that breaks off drops what it had not written yet.
    projection = JobEventProjection()
    told = [new.message for event in seen for new in projection.push(event)]
    assert [m.split(":")[0] for m in told if m.startswith("Forecast")] == ["Forecast by formula", "Forecast by the first steps"]


def test_the_job_tells_when_it_will_likely_be_done_before_its_first_step(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    finishes: list[int | None] = []

    def watch(event: TraceEvent) -> None:
        if isinstance(event.payload, Forecasted) and not finishes:
            shop.pause()  # ends the run before its first step; what was noted is not lost with it
            finishes.append(int(event.payload.finish_at))

    shop.attempt(watch)
    assert finishes[0] is not None
    assert finishes[0] >= 1_800_000_000
    job = shop.jobs.get(shop.job_id)
    assert job is not None
    assert job.status is JobStatus.PAUSED


class Card:
    """A stand-in for a GPU: the job is placed on it after its numbers were decided as on a CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, available: int) -> None:
        self.memory = DeviceMemory(
            device="cuda", name="NVIDIA X", total_bytes=80_000_000_000, free_bytes=int((available + 600_000_000) / 0.95) + 1, held_bytes=0
        )
        self.available = self.memory.available_bytes
        self.forecaster: JobForecaster | None = None
        self.more_devices: tuple[str, ...] = ()
        monkeypatch.setattr(
            forecasting,
            "placed",
            lambda spec: Placement(device=spec.device, precision=spec.precision, device_reason="", precision_reason=""),
        )
        monkeypatch.setattr(forecasting, "device_memory", lambda _device: self.memory)
        monkeypatch.setattr(forecasting, "is_installed", lambda: True)

    def begin(self, ctx: RunContext) -> None:
        data, start = collect_files(ctx), find_start(ctx)
        length = resolve_max_length(options_of(ctx.job).max_length, start.facts.max_length)
        tokens = preprocess(ctx, data, start, int(length.value))
        spec, _ = resolve_spec(ctx, data, start, tokens, length, (0, 1 << 60))
        spec = replace(spec, device="cuda", precision="bfloat16" if spec.lora_rank else "float32", packing=True)
        spec = replace(spec, more_devices=self.more_devices)
        self.forecaster = JobForecaster(ctx, start, spec, tokens.training, tokens.validation, ctx.now())
        self.forecaster.check_memory()
        self.forecaster.announce()


def step_of(number: int, memory_bytes: int) -> StepDone:
    return StepDone(
        step=number,
        total_steps=3,
        epoch=1,
        loss=1.0,
        token_accuracy=0.5,
        num_tokens=4,
        learning_rate=1e-3,
        grad_norm=1.0,
        seconds=0.1,
        memory_bytes=memory_bytes,
    )


def notices(seen: list[TraceEvent]) -> list[str]:
    return [event.payload.message for event in seen if isinstance(event.payload, Notice)]


def test_on_a_gpu_the_memory_is_foretold_and_set_beside_what_tensors_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, card = Shop(tmp_path), Card(monkeypatch, 30_000_000_000)
    seen: list[TraceEvent] = []
    shop.settings = replace(shop.settings, train_memory_bytes=1)  # of the machine, which says nothing there

    def whole(ctx: RunContext) -> None:
        card.begin(ctx)
        assert card.forecaster is not None
        for number, took in enumerate((110_000_000, 130_000_000, 130_000_000), 1):
            card.forecaster.step_done(step_of(number, took))
        card.forecaster.finish(tokens=1)

    shop.attempt(seen.append, carry_out=whole)
    told, compared = notices(seen)
    pattern = (
        r"Tensors are forecast to take (0\.\d\d GB \(0\.\d\d to 0\.\d\d\)) of memory on cuda \(NVIDIA X\); "
        r"30\.0 GB are available for training there\."
    )
    found = re.fullmatch(pattern, told)
    assert found is not None, told
    assert compared == f"Tensors took 0.13 GB of memory on cuda (NVIDIA X); {found[1]} had been forecast."
    assert not [event for event in seen if isinstance(event.payload, Forecasted | ForecastChecked)], "nobody foretells the time there yet"


def test_of_several_gpus_the_one_with_the_least_to_give_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, card = Shop(tmp_path), Card(monkeypatch, 30_000_000_000)
    small = replace(card.memory, device="cuda:1", name="NVIDIA Y", free_bytes=20_000_000_000)
    monkeypatch.setattr(forecasting, "device_memory", {"cuda": card.memory, "cuda:1": small}.__getitem__)
    card.more_devices = ("cuda:1",)
    seen: list[TraceEvent] = []

    def whole(ctx: RunContext) -> None:
        card.begin(ctx)
        assert card.forecaster is not None
        card.forecaster.step_done(step_of(1, 110_000_000))
        card.forecaster.finish(tokens=1)

    shop.attempt(seen.append, carry_out=whole)
    told, compared = notices(seen)
    assert told.endswith(" of memory on cuda:1 (NVIDIA Y); 18.4 GB are available for training there.")
    assert compared.startswith("Tensors took 0.11 GB of memory on the fullest GPU; ")


def test_a_job_that_does_not_fit_on_its_gpu_is_refused_before_its_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, card = Shop(tmp_path, options={"rank": 256}), Card(monkeypatch, 150_000_000)
    with pytest.raises(JobFailure) as refused:
        shop.attempt(lambda _event: None, carry_out=card.begin)
    assert refused.value.code == "insufficient_memory"
    began = (
        r"This job is forecast to need 0\.\d GB of memory on cuda \(NVIDIA X\), even with each row alone .* "
        r"It would fit with rank \d+ \(0\.\d GB\)"
    )
    assert re.match(began, refused.value.message), refused.value.message
    assert refused.value.message.endswith(" Or free memory on the device, or name another one with LUTHIER_DEVICE.")


def test_a_run_whose_gpu_is_gone_says_so(tmp_path: Path) -> None:
    shop = Shop(tmp_path)

    def elsewhere(ctx: RunContext) -> None:
        spec = replace(spec_for(rows([(5, 2)] * 4)), device="cuda:99")
        JobForecaster(ctx, find_start(ctx), spec, rows([(5, 2)] * 4), None, ctx.now())

    with pytest.raises(JobFailure, match=r"began on another machine\. LUTHIER_DEVICE is cuda:99") as refused:
        shop.attempt(lambda _event: None, carry_out=elsewhere)
    assert refused.value.code == "device_unavailable"
