"""The process that measures for a forecast: as a job's process would, it reads the rows, loads the model and trains for some seconds.

What it does: a dry run in a temporary folder, and the forecast from it; without one where already the formula says that the job does
not fit. What it does not: keep anything, or need a server. Forked for ``forecast_job.py`` as a job's process is for the worker, so
that its memory is what a job's would be.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from luthier.core.errors import InvalidRequest, JobFailure, LuthierError
from luthier.core.forecast import Forecast
from luthier.core.prices import openai_prices, own_cost
from luthier.core.settings import Settings
from luthier.core.specs import ObjectiveKind, TrainingSpec
from luthier.data.stage import collect
from luthier.data.validate import Method
from luthier.models.checkpoint import MANIFEST_NAME, verify_folder
from luthier.models.device import placement_of, prepare_device, serving_placement
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared, prepare
from luthier.training.base_probe import probe_base
from luthier.training.base_rule import BaseFound, asks_base
from luthier.training.dry_run import dry_run
from luthier.training.forecast import Saving, assumed_rates, forecast, peak_by_dry_run, rates_of
from luthier.training.memory import resident_bytes
from luthier.training.plan import Plan
from luthier.training.resolve import resolve_max_length
from luthier.worker.child import NICENESS
from luthier.worker.fixed_prompts import FixedPrompts
from luthier.worker.forecast_order import DATA_INVALID, FAILED, USAGE, ForecastOrder
from luthier.worker.forecasting import find_cures, make_plan, memory_there, peak_of, refusal
from luthier.worker.less_memory import with_less_memory
from luthier.worker.machine import EnergyMeter, available_memory, matrix_speed
from luthier.worker.range_testing import Decided
from luthier.worker.start import Start, decide, start_of


def forecast_child(order: ForecastOrder, answers: Connection) -> None:
    """The whole life of the process: messages ``(kind, value)`` over the pipe, the last one ``done`` or ``refused`` (code, sentence)."""
    os.nice(NICENESS)
    try:
        answers.send(("done", measure(order, lambda what: answers.send(("progress", what)))))
    except LuthierError as error:
        data_fault = isinstance(error, JobFailure) and error.param in ("training_file", "validation_file")
        answers.send(("refused", (DATA_INVALID if data_fault else USAGE if isinstance(error, InvalidRequest) else FAILED, error.message)))
    answers.close()
    os._exit(0)


def measure(order: ForecastOrder, progress: Callable[[str], None]) -> dict[str, Any]:
    """The forecast with prices and, where the job does not fit, why and what would help; plain values.

    Raises:
        DataFailure, InvalidRequest: the files or the model cannot be used.
    """
    began = time.perf_counter()
    progress("rows")
    limit = order.settings.max_line_bytes
    method: Method = "supervised" if order.objective is ObjectiveKind.SUPERVISED else "dpo"
    training_data = collect("training", order.training, role="training", max_line_bytes=limit, sha256="", method=method)
    validation_data = None
    if order.validation is not None:
        validation_data = collect("validation", order.validation, role="validation", max_line_bytes=limit, sha256="", method=method)
    start = start_of(order.settings, order.base, order.parent, order.options)
    max_length = resolve_max_length(order.options.max_length, start.facts.max_length)
    training = prepare(training_data, start.renderer, max_length=int(max_length.value), role="training")
    validation = None
    if validation_data is not None:
        validation = prepare(validation_data, start.renderer, max_length=int(max_length.value), role="validation")
    again = partial(
        decide,
        order.settings,
        start,
        order.hyperparameters,
        order.options,
        base=order.base.name,
        seed=order.seed,
        num_examples=training.num_examples,
        fingerprints=(training_data.fingerprint, validation_data.fingerprint if validation_data else None),
        max_length=max_length,
        objective=order.objective,
    )
    seconds = time.perf_counter() - began
    return _conclude(order, start, training, validation, again, seconds, progress)


def _conclude(
    order: ForecastOrder,
    start: Start,
    training: Prepared,
    validation: Prepared | None,
    again: Callable[..., Decided],
    start_seconds: float,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    process_bytes, free = resident_bytes(), available_memory(order.settings)

    def decided(found: BaseFound | None = None) -> Decided:
        return with_less_memory(again(found=found), order.options, start, training, process_bytes, free)

    spec, decisions = decided()
    there = memory_there(order.settings, spec, process_bytes)
    plan, available = make_plan(start, spec, training, validation, there), there.available_bytes
    peak = peak_of(plan, training, there)
    if order.seconds and peak.low <= available:
        progress("model")
        began = time.perf_counter()
        model = _as_trained(start, spec)
        load_seconds = time.perf_counter() - began
        if asks_base(order.hyperparameters, order.options, order.objective):
            parent = start.adapter.folder if start.adapter else None
            spec, decisions = decided(probe_base(model, spec, training, parent_adapter=parent))
            plan = make_plan(start, spec, training, validation, there)
        made = _measured(order, start, model, plan, training, validation, (start_seconds, load_seconds), available, progress)
        if there.card is not None:  # the dry run saw the memory of the machine
            made = replace(made, peak_bytes=peak)
    else:
        dtype, rows = placement_of(plan.spec).dtype, plan.first_epoch[0].micros[0].padded
        speed = matrix_speed(rows, plan.shape.mlp_size, plan.shape.hidden_size, dtype=dtype)
        rates = assumed_rates(plan, operations_per_second=speed, start_seconds=start_seconds)
        made = forecast(plan, rates, peak=peak, available_bytes=available, saving=_saving(order.settings))
    reason, found = None, ()
    if not made.fits:
        # A dry run knows the process better than the formula: what it saw beyond the formula is there whatever is changed.
        unknown = max(0, int(made.peak_bytes.likely - peak.likely))
        found = find_cures(start, plan, training, replace(there, process_bytes=there.process_bytes + unknown))
        reason = refusal(made.peak_bytes, there, found)
    return {
        "model": order.asked_model,
        "base": order.base.name,
        "method": plan.spec.method.value,
        "forecast": made.to_dict(),
        "fits": made.fits,
        "refusal": reason,
        "cures": [{"changes": dict(cure.changes), "peak_bytes": cure.peak_bytes} for cure in found],
        "costs": _costs(order.settings, made, order.asked_model),
        "decisions": [{"name": d.name, "value": d.value, "reason": d.reason} for d in decisions],
        "truncated": training.num_truncated,
        "skipped": training.num_skipped,
    }


def _measured(
    order: ForecastOrder,
    start: Start,
    model: LanguageModel,
    plan: Plan,
    training: Prepared,
    validation: Prepared | None,
    took: tuple[float, float],
    available: int,
    progress: Callable[[str], None],
) -> Forecast:
    """``took``: seconds until the rows were ready, and for loading the model."""
    settings, (start_seconds, load_seconds) = order.settings, took
    meter = EnergyMeter(device=str(model.device))
    mark = meter.start()
    with tempfile.TemporaryDirectory(prefix="luthier-forecast-") as folder:
        measured = dry_run(
            model,
            plan,
            training,
            validation,
            Path(folder),
            parent_adapter=start.adapter.folder if start.adapter else None,
            engine_threads=settings.engine_threads or min(4, max(1, (os.cpu_count() or 1) // 2)),
            stop_ids=start.renderer.stop_ids,
            seconds=order.seconds,
            progress=progress,
            asking=partial(FixedPrompts(model, start.renderer, training, validation).answer, 0),
            answering=None if plan.spec.precision == "float32" and not plan.nf4 else partial(_as_served, start, settings),
        )
    watts = meter.watts_since(mark)
    rates = rates_of(measured, start_seconds=start_seconds + load_seconds, load_seconds=load_seconds)
    made = forecast(plan, rates, peak=peak_by_dry_run(plan, measured), available_bytes=available, saving=_saving(settings))
    return replace(made, watts=watts)


def _as_trained(start: Start, spec: TrainingSpec) -> LanguageModel:
    placement = placement_of(spec)
    prepare_device(placement.device, placement.precision)
    return load_model(start.folder, device=placement.device, dtype=placement.dtype, quantization=spec.quantization)


def _as_served(start: Start, settings: Settings) -> LanguageModel:
    if (start.folder / MANIFEST_NAME).is_file():  # as the engine host does, which takes its time
        verify_folder(start.folder)
    placement = serving_placement(settings.device, settings.precision, start.folder)
    prepare_device(placement.device, placement.precision)
    return load_model(start.folder, device=placement.device, dtype=placement.dtype)


def _saving(settings: Settings) -> Saving:
    return Saving(seconds=settings.resume_seconds, share=settings.resume_share)


def _costs(settings: Settings, made: Forecast, asked: str) -> dict[str, Any]:
    """What the job costs here and would have cost there; entries that nobody knows are None."""
    own = [own_cost(settings, seconds=s, tokens=made.tokens) for s in (made.seconds.low, made.seconds.likely, made.seconds.high)]
    energy = None if made.watts is None else made.watts * made.seconds.likely / 3.6e6
    return {
        "currency": settings.currency,
        "own": None if own[1] is None else {"low": own[0], "likely": own[1], "high": own[2]},
        "kilowatt_hours": energy,
        "openai": [price.to_dict() for price in openai_prices(settings, asked, made.tokens)],
    }
