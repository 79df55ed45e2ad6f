"""The forecast within a job: made before its model is loaded, corrected by its first steps, and set beside what came of it.

What it does: refuses a job that does not fit into memory, of the machine or of its GPU, with the changes that would make it fit; emits
``Forecasted`` and ``ForecastChecked``; on a GPU, whose time nobody foretells yet, notices of the memory alone. What it does not: estimate
(``training/forecast.py`` and ``training/card_memory.py`` do). Called by ``worker/pipelines.py``; the refusal also by
``worker/forecast_child.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from luthier.core.errors import JobFailure
from luthier.core.forecast import Basis, Forecast, Span
from luthier.core.quantization import is_installed
from luthier.core.settings import Settings
from luthier.core.specs import TrainingSpec
from luthier.core.stage import Stage
from luthier.models.device import placement_of
from luthier.models.facts import read_config
from luthier.preprocessing.stage import Prepared
from luthier.trace.events import BaseMeasured, ForecastChecked, Forecasted, Notice, RangeTested, StepDone
from luthier.training.card_memory import card_forecast, card_job, card_room
from luthier.training.cures import Cure, cures
from luthier.training.dry_run import Timed
from luthier.training.forecast import Rates, Saving, assumed_rates, corrected, forecast, peak_by_formula
from luthier.training.memory import peak_resident_bytes
from luthier.training.plan import Plan, plan_run
from luthier.training.work import shape_of
from luthier.worker.context import RunContext
from luthier.worker.machine import DeviceMemory, available_memory, device_memory, matrix_speed
from luthier.worker.start import Start, placed

_ENOUGH_STEPS, _ENOUGH_SHARE, _FEWEST_STEPS = 12, 0.25, 4
"""So many steps, or such a share of them, correct the forecast; never fewer than four."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryThere:
    """What a run may take where it trains."""

    process_bytes: int
    """Of the machine's memory, without the model; 0 on a GPU."""
    available_bytes: int
    card: DeviceMemory | None
    """The GPU, where it trains on one; of several that with the least to give, for all of them hold the base."""


def memory_there(settings: Settings, spec: TrainingSpec, process_bytes: int) -> MemoryThere:
    """Look, on the devices that the spec names.

    Args:
        settings: of the server.
        spec: of the run.
        process_bytes: what the process holds without the model.

    Raises:
        JobFailure: one of the devices is not here.
    """
    if placed(spec).device == "cpu":
        return MemoryThere(process_bytes=process_bytes, available_bytes=available_memory(settings), card=None)
    cards = [device_memory(device) for device in (spec.device, *spec.more_devices)]
    card = min(cards, key=lambda each: each.available_bytes)
    return MemoryThere(process_bytes=0, available_bytes=card.available_bytes, card=card)


def make_plan(start: Start, spec: TrainingSpec, training: Prepared, validation: Prepared | None, there: MemoryThere) -> Plan:
    """Lay out the run from its prepared rows, cut as the device has it."""
    shape = shape_of(read_config(start.folder), start.facts)
    room = None if there.card is None else card_room(card_job(spec, shape), there.card.total_bytes)
    return plan_run(spec, training, validation, start.facts, shape, room)


def peak_of(plan: Plan, training: Prepared, there: MemoryThere) -> Span:
    """Most memory of the run, by arithmetic alone."""
    if there.card is not None:
        return card_forecast(plan, training, there.available_bytes)
    return peak_by_formula(plan, process_bytes=there.process_bytes)


def find_cures(start: Start, plan: Plan, training: Prepared, there: MemoryThere) -> tuple[Cure, ...]:
    """What would make the job fit; computed for the likely peak, so that a change that is taken up is not refused again."""
    return cures(
        plan.spec,
        training,
        start.facts,
        plan.shape,
        process_bytes=there.process_bytes,
        available_bytes=there.available_bytes,
        factor=1.0,
        packs=is_installed(),
    )


def refusal(peak: Span, there: MemoryThere, found: Sequence[Cure]) -> str:
    """Why the job does not start, and what would let it."""
    needs, available, card = f"{peak.likely / 1e9:.1f} GB", f"{there.available_bytes / 1e9:.1f} GB", there.card
    fits = "No change of the job's own settings fits. Free"
    if found:
        fits = f"It would fit with {', or '.join(cure.sentence() for cure in found)}. Or free"
    if card is None:
        return (
            f"This job is forecast to need {needs} of memory; {available} are available for training. "
            f"{fits} memory on the server, or raise LUTHIER_TRAIN_MEMORY_BYTES where that is the limit."
        )
    return (
        f"This job is forecast to need {needs} of memory on {card.label}, even with each row alone and blocks made again on the way back; "
        f"{available} of the device's {card.total_bytes / 1e9:.1f} are available for training. {fits} memory on the device, or name "
        "another one with LUTHIER_DEVICE."
    )


class JobForecaster:
    """One attempt's forecast. A resumed attempt is only checked against the memory: its time is not the job's."""

    def __init__(
        self, ctx: RunContext, start: Start, spec: TrainingSpec, training: Prepared, validation: Prepared | None, began: float
    ) -> None:
        """``began``: when the trainer took the job, Unix seconds."""
        self._ctx, self._start, self._rows = ctx, start, (training, validation)
        self._began = began
        self._there = memory_there(ctx.settings, spec, ctx.floor.process_bytes)
        self._plan = make_plan(start, spec, training, validation, self._there)
        self._peak = peak_of(self._plan, training, self._there)
        self._tensor_bytes = 0
        """The most that the steps told of, on a GPU."""
        self._announced = False
        self._rates: Rates | None = None
        self._forecast: Forecast | None = None
        self._known: dict[str, float] = {}
        self._steps: list[Timed] = []
        self._marks = (began, began)

    def check_memory(self) -> None:
        """Refuse what does not fit.

        Raises:
            JobFailure: code ``insufficient_memory``, with the changes that would make the job fit.
        """
        if self._peak.low <= self._there.available_bytes:
            return
        found = find_cures(self._start, self._plan, self._rows[0], self._there)
        raise JobFailure(refusal(self._peak, self._there, found), code="insufficient_memory")

    def announce(self) -> None:
        """The first forecast: from the model's arithmetic and the speed of one matrix product here; on a GPU of the memory alone."""
        card = self._there.card
        if card is not None:
            self._announced = True
            self._notice(
                f"Tensors are forecast to take {_spoken(self._peak)} of memory on {card.label}; {self._there.available_bytes / 1e9:.1f} GB "
                "are available for training there."
            )
            return
        shape, step = self._plan.shape, self._plan.first_epoch[0]

        def measured() -> float:
            torch.set_num_threads(self._plan.spec.num_threads)
            rows, dtype = max(micro.padded for micro in step.micros), placement_of(self._plan.spec).dtype
            return matrix_speed(rows, shape.mlp_size, shape.hidden_size, dtype=dtype)

        speed = self._ctx.floor.call(measured)
        self._rates = assumed_rates(self._plan, operations_per_second=speed, start_seconds=self._ctx.now() - self._began)
        self._emit(self._rates)

    def decided(self, spec: TrainingSpec) -> None:
        """The run's numbers, when some were decided after the forecast was made: it is made anew where the run has other steps now."""
        if spec.total_steps == self._plan.spec.total_steps:
            return
        spec = replace(spec, range_steps=spec.range_steps if self._plan.spec.range_steps else 0)
        self._plan = make_plan(self._start, spec, *self._rows, self._there)
        if self._rates is not None:
            self._emit(self._rates)

    def rate_tested(self, report: RangeTested) -> None:
        """The learning rate is found."""
        self._known["range_test"] = report.seconds

    def training_starts(self) -> None:
        """The model is loaded, and a test of the learning rate is over."""
        self._marks = (self._ctx.now(), self._ctx.now())
        self._known["start"] = self._marks[0] - self._began - self._known.get("range_test", 0.0)

    def base_measured(self, _report: BaseMeasured) -> None:
        """The base is measured; steps follow."""
        self._known["base"] = self._ctx.now() - self._marks[1]

    def step_done(self, report: StepDone) -> None:
        """Take a step; after enough of them the forecast is made anew, once."""
        self._tensor_bytes = max(self._tensor_bytes, report.memory_bytes or 0)
        if self._rates is None or self._rates.basis is Basis.STEPS or report.step > len(self._plan.steps):
            return
        # The first step makes what the others find, and some steps have a validation in them.
        if report.step == 1 or report.valid_loss is not None:
            return
        self._steps.append(Timed(work=self._plan.steps[report.step - 1].work, seconds=report.seconds))
        if len(self._steps) >= min(_ENOUGH_STEPS, max(_FEWEST_STEPS, int(_ENOUGH_SHARE * report.total_steps))):
            self._rates = corrected(self._rates, self._steps)
            self._emit(self._rates)

    def finish(self, *, tokens: int) -> None:
        """Set the latest forecast beside what came of it; not where other jobs took a part of the time and the memory."""
        if self._ctx.floor.was_shared:
            return
        if self._announced and self._there.card is not None:
            where = "the fullest GPU" if self._plan.spec.more_devices else self._there.card.label
            took = f"Tensors took {self._tensor_bytes / 1e9:.2f} GB of memory on {where}"
            self._notice(f"{took}; {_spoken(self._peak)} had been forecast.")
        if self._forecast is None:
            return
        made = self._forecast
        checked = ForecastChecked(
            basis=made.basis.value,
            forecast_seconds=(made.seconds.low, made.seconds.likely, made.seconds.high),
            seconds=self._ctx.now() - self._began,
            forecast_bytes=(made.peak_bytes.low, made.peak_bytes.likely, made.peak_bytes.high),
            peak_bytes=peak_resident_bytes(),
            forecast_tokens=made.tokens,
            tokens=tokens,
        )
        self._ctx.tracer.emit(Stage.DEPLOYMENT, checked)

    def _notice(self, message: str) -> None:
        self._ctx.tracer.emit(Stage.TRAINING, Notice(level="info", message=message))

    def _emit(self, rates: Rates) -> None:
        settings = self._ctx.settings
        made = forecast(
            self._plan,
            rates,
            peak=self._peak,
            available_bytes=self._there.available_bytes,
            saving=Saving(seconds=settings.resume_seconds, share=settings.resume_share),
            known=self._known,
        )
        self._forecast = made
        # The forecast is of the job alone; when it will be done depends on who takes turns with it.
        done = max(0.0, self._ctx.now() - self._began)
        finish_at = self._began + done + max(0.0, made.seconds.likely - done) * self._ctx.floor.stretch()
        self._ctx.tracer.emit(Stage.TRAINING, Forecasted(forecast=made.to_dict(), finish_at=finish_at))


def _spoken(span: Span) -> str:
    return f"{span.likely / 1e9:.2f} GB ({span.low / 1e9:.2f} to {span.high / 1e9:.2f})"
