"""A job's forecast: made, corrected by its steps, checked at its end; and refused with what would help where it does not fit."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from luthier.core.errors import JobFailure, Unavailable
from luthier.core.forecast import Basis, Span, forecast_from_dict
from luthier.core.jobs import JobStatus
from luthier.trace.events import ForecastChecked, Forecasted, StepDone, TraceEvent
from luthier.trace.projections import JobEventProjection
from luthier.training.cures import Cure
from luthier.worker.forecasting import refusal
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
    text = refusal(Span(low=8e9, likely=9.13e9, high=1e10), 4_000_000_000, found)
    assert text == (
        "This job is forecast to need 9.1 GB of memory; 4.0 GB are available for training. It would fit with "
        'adapter "lora" (3.1 GB), or batch_size 1 and max_length 1024 (2.9 GB). Or free memory on the server, or raise '
        "LUTHIER_TRAIN_MEMORY_BYTES where that is the limit."
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
