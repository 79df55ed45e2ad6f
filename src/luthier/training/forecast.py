"""The forecast of a run: its plan, put together with how fast this device was seen to be.

What it does: seconds of each part with an interval, seconds per step by length, peak memory. What it does not: run anything
(``dry_run.py`` does) or look at the machine. Pure. Called by ``worker``.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from luthier.core.forecast import Basis, Forecast, LengthBucket, Span, TimePart
from luthier.core.specs import Keep
from luthier.training.dry_run import AnswerSpeed, Measurements, Timed
from luthier.training.plan import Plan, PlannedStep
from luthier.training.resume import RESUME_PAUSE, resume_interval
from luthier.training.work import (
    KERNEL_BYTES,
    Micro,
    fixed_bytes,
    forward_work,
    resume_bytes,
    weight_bytes,
)

_BUCKETS = 4
_MAX_QUESTIONS, _MAX_ANSWER, _MAX_TRACED, _CONCURRENCY = 200, 128, 64, 8
"""Of the evaluation and of the question that deployment asks (``evaluation/stage.py``, ``deployment/warm.py``)."""
_TRACED_ANSWERS = 1.6
"""The base's and the tuned model's, side by side in the engine, as if one after another."""
_PROMPTS_SECONDS, _PROMPTS_TOKENS = 5.0, 48
"""Of the prompts of an epoch's end: most seconds together, tokens of each (``worker/fixed_prompts.py``)."""
_WIDTH = {Basis.DRY_RUN: 0.10, Basis.STEPS: 0.10, Basis.FORMULA: 0.60}
"""Least half-width of the steps' interval, as a share."""
_OTHER_WIDTH = 0.5
"""Half-width of parts that depend on the disk and on other processes."""
_FIRST_SETTLED, _ENOUGH_TO_FIT = 2, 5
"""Steps after which a run holds what every step holds; steps whose growth is worth a line."""
_HOLES = 0.06
"""Of a heap that rows of many lengths went through, beyond what some steps show: 0 to 10 % in five jobs."""
LOADED_CODE = 50_000_000
"""Of torch's libraries, which a forked process maps when it first runs them; measured."""
_MEMORY_WIDTH = {Basis.DRY_RUN: 0.08, Basis.STEPS: 0.12, Basis.FORMULA: 0.15}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Seconds of a piece of work: straight between measured points, and on beyond the last one at the mean rate."""

    points: tuple[tuple[float, float], ...]
    """(operations, seconds), rising in both."""

    def at(self, work: float) -> float:
        """Seconds of this much work."""
        works, times = [w for w, _ in self.points], [t for _, t in self.points]
        if work <= works[-1]:
            return float(np.interp(work, [0.0, *works], [self._start(), *times]))
        mean = times[-1] / works[-1]
        # Of points that lie close together a disturbed one would make any slope.
        rise = min((times[-1] - times[0]) / (works[-1] - works[0]), 2 * mean) if len(works) > 1 else mean
        return times[-1] + rise * (work - works[-1])

    def _start(self) -> float:
        """What no work at all would take: the first two points go on to the left, but not below zero."""
        if len(self.points) < 2:
            return 0.0
        (w0, t0), (w1, t1) = self.points[:2]
        return min(t0, max(0.0, t0 - (t1 - t0) / (w1 - w0) * w0))


def line_of(timed: Sequence[Timed], *, most_points: int = 5) -> Line:
    """The line through the medians of like pieces of work.

    Raises:
        ValueError: nothing was measured.
    """
    if not timed:
        raise ValueError("Nothing was measured.")
    ordered = sorted(timed, key=lambda t: t.work)
    groups = np.array_split(np.arange(len(ordered)), min(most_points, len(ordered)))
    points: list[tuple[float, float]] = []
    for group in groups:
        work = statistics.median(ordered[i].work for i in group)
        # The rate, not the time: within a group the work differs.
        seconds = statistics.median(ordered[i].seconds / ordered[i].work for i in group) * work
        if points and work <= points[-1][0] * 1.02:
            least = points[-2][1] if len(points) > 1 else 0.0
            points[-1] = (points[-1][0], max((points[-1][1] + seconds) / 2, least))
        else:
            points.append((work, max(seconds, points[-1][1] if points else 0.0)))
    return Line(points=tuple(points))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How fast this device is with this model."""

    basis: Basis
    step: Line
    forward: Line
    start_seconds: float
    """Reading the rows, rendering them, loading the model, and what the first step takes beyond a usual one."""
    load_seconds: float
    """Loading the model alone."""
    export_seconds: float
    write_seconds: float
    slowed: float
    checkpoint_seconds: float
    prompts_seconds: float
    """The prompts that are asked before the first step and after each epoch, once."""
    served_seconds: float
    """Until a model stands as the engine host has it."""
    answers: AnswerSpeed | None
    width: float
    """Half-width of the steps' interval, as a share."""


def rates_of(measured: Measurements, *, start_seconds: float, load_seconds: float) -> Rates:
    """What a dry run says of the device."""
    line = line_of(measured.steps)
    return Rates(
        basis=Basis.DRY_RUN,
        step=line,
        forward=line_of(measured.forwards),
        start_seconds=start_seconds + measured.first_extra_seconds,
        load_seconds=load_seconds,
        export_seconds=measured.export_seconds,
        write_seconds=measured.write_seconds,
        slowed=measured.slowed,
        checkpoint_seconds=measured.checkpoint_seconds,
        prompts_seconds=measured.prompts_seconds,
        served_seconds=max(load_seconds, measured.served_seconds),
        answers=measured.answers,
        width=max(_WIDTH[Basis.DRY_RUN], _doubt(line, measured.steps)),
    )


def _doubt(line: Line, timed: Sequence[Timed]) -> float:
    """Twice the standard error of the mean step, as a share, from how far the steps lie from the line."""
    away = [t.seconds / max(line.at(t.work), 1e-9) - 1 for t in timed]
    return 2 * statistics.pstdev(away) / len(away) ** 0.5


def assumed_rates(plan: Plan, *, operations_per_second: float, start_seconds: float) -> Rates:
    """Rates from one number: the speed of a matrix product of the model's size. Other parts are rules of thumb."""
    shape = plan.shape
    # Beside the products a block spends about as long on everything else; short rows keep the processor less busy.
    usable = 0.5 * operations_per_second
    typical = statistics.median(step.work for step in plan.first_epoch)
    forwards = statistics.median(len(step.micros) for step in plan.first_epoch)
    forward = statistics.median(forward_work(micro, shape) for micro in plan.base)
    bytes_saved = resume_bytes(plan.trainable)
    round_seconds = max(0.002, 8 * 2.0 * shape.num_parameters / usable)
    return Rates(
        basis=Basis.FORMULA,
        step=Line(points=((typical, (typical + forwards * plan.norm_work) / usable + 2 * forwards * plan.unpacking_seconds),)),
        forward=Line(points=((forward, (forward + plan.norm_work) / usable + plan.unpacking_seconds),)),
        start_seconds=start_seconds + weight_bytes(shape) / 1e9,
        load_seconds=weight_bytes(shape) / 1e9,
        export_seconds=bytes_saved / 2e9,
        write_seconds=bytes_saved / 3e8,
        slowed=1.3,
        checkpoint_seconds=(weight_bytes(shape) if plan.full else plan.trainable * 4) / 3e8,
        prompts_seconds=min(_PROMPTS_SECONDS, _PROMPTS_TOKENS * round_seconds),
        served_seconds=3 * weight_bytes(shape) / 1e9,
        answers=AnswerSpeed(
            prompt_seconds=2.0 * shape.num_parameters / usable,
            round_seconds=round_seconds,
            single_seconds=max(0.002, weight_bytes(shape) / 5e9),
            tokens=_MAX_ANSWER / 2,
        ),
        width=_WIDTH[Basis.FORMULA],
    )


def corrected(rates: Rates, steps: Sequence[Timed]) -> Rates:
    """The rates with what the job's own first steps took; forwards are taken to run at the same speed."""
    line = line_of(steps, most_points=4)
    pace = statistics.median(t.seconds / t.work for t in steps)
    return replace(
        rates,
        basis=Basis.STEPS,
        step=line,
        forward=Line(points=((1e9, pace * 1e9),)),
        width=max(_WIDTH[Basis.STEPS], _doubt(line, steps)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """How often a resume state is written, as in ``core.settings``."""

    seconds: float
    share: float


def forecast(
    plan: Plan,
    rates: Rates,
    *,
    peak: Span,
    available_bytes: int,
    saving: Saving,
    known: Mapping[str, float] = MappingProxyType({}),
) -> Forecast:
    """Put plan and rates together.

    Args:
        plan, rates: of the run, of the device.
        peak: of the training process's memory.
        available_bytes: what it may take.
        saving: how often a resume state is written.
        known: parts that are over, by name, with the seconds they took.
    """
    parts = _parts(plan, rates, saving)
    parts = [TimePart(name=p.name, seconds=_around(known[p.name], 0.0)) if p.name in known else p for p in parts]
    total = Span(low=0.0, likely=0.0, high=0.0)
    for part in parts:
        total = total + part.seconds
    spec = plan.spec
    return Forecast(
        basis=rates.basis,
        examples=plan.examples,
        n_epochs=spec.n_epochs,
        batch_size=spec.batch_size,
        steps_per_epoch=spec.steps_per_epoch,
        total_steps=spec.total_steps,
        tokens_per_epoch=plan.tokens_per_epoch,
        trained_per_epoch=plan.trained_per_epoch,
        tokens=plan.tokens_per_epoch * spec.n_epochs,
        longest=max(step.longest for step in plan.steps),
        seconds=total,
        parts=tuple(parts),
        buckets=_buckets(plan.first_epoch, rates.step),
        peak_bytes=peak,
        available_bytes=available_bytes,
    )


def _around(seconds: float, width: float) -> Span:
    """Narrower below than above: a machine is more often disturbed than helped."""
    return Span(low=seconds * max(0.0, 1 - width), likely=seconds, high=seconds * (1 + 1.5 * width))


def _parts(plan: Plan, rates: Rates, saving: Saving) -> list[TimePart]:
    shape, spec = plan.shape, plan.spec

    def reading(micros: Sequence[Micro]) -> float:
        return sum(rates.forward.at(work) for work in (forward_work(micro, shape) for micro in micros))

    steps = sum(rates.step.at(step.work) for step in plan.steps) * spec.total_steps / len(plan.steps)
    validation = sum(reading(check) for check in plan.checks) + spec.n_epochs * reading((*plan.epoch_ahead, *plan.epoch_end))
    steps, saves = _with_saves(plan, rates, steps, saving)
    test = sum(rates.step.at(step.work) + reading(step.micros) for step in plan.tried)
    evaluation, deployment = _evaluation(plan, rates, reading(plan.epoch_end)), _deployment(plan, rates)
    prompts = rates.prompts_seconds
    # Where no earlier epoch's weights can come back, the last epoch's are asked beside the engine's work on the model.
    last = max(0.0, prompts - evaluation.likely - deployment.likely) if spec.keep is Keep.LAST and not spec.patience else prompts
    return [
        TimePart(name="start", seconds=_around(rates.start_seconds, _OTHER_WIDTH)),
        *([TimePart(name="range_test", seconds=_around(test, rates.width))] if plan.tried else []),
        TimePart(name="base", seconds=_around(reading(plan.base), rates.width)),
        TimePart(name="steps", seconds=_around(steps, rates.width)),
        TimePart(name="validation", seconds=_around(validation, rates.width)),
        TimePart(name="prompts", seconds=_around(spec.n_epochs * prompts + last, _OTHER_WIDTH)),
        TimePart(name="saves", seconds=_around(saves, _OTHER_WIDTH)),
        TimePart(name="evaluation", seconds=evaluation),
        TimePart(name="deployment", seconds=deployment),
    ]


def _with_saves(plan: Plan, rates: Rates, steps: float, saving: Saving) -> tuple[float, float]:
    """The steps' time, slowed by states that are written beside them, and the time that the loop itself spends on saves."""
    spec = plan.spec
    interval = resume_interval(spec.total_steps, saving.share)
    by_steps, by_time = min(spec.total_steps / interval, steps / RESUME_PAUSE), steps / saving.seconds
    # One state is written at a time: none begins while the one before is being written.
    most = steps / max(rates.write_seconds, 1e-6)
    states = min(max(by_steps, by_time), most) + spec.n_epochs
    busy = min(1.0, states * rates.write_seconds / max(steps, 1e-9))
    waited = rates.write_seconds * (1 + 0.5 * busy * (spec.n_epochs - 1))
    saves = states * rates.export_seconds + spec.n_epochs * rates.checkpoint_seconds + waited
    return steps * (1 + busy * (rates.slowed - 1)), saves


def _evaluation(plan: Plan, rates: Rates, reading: float) -> Span:
    """Base and tuned model answer the held-out questions, eight at a time, and score the expected answers."""
    if not plan.sources or rates.answers is None:
        return Span(low=0.0, likely=0.0, high=0.0)
    speed = rates.answers
    questions = min(_MAX_QUESTIONS, plan.sources)
    share = questions / plan.sources
    each = plan.spec.objective.rows_per_example
    expected = min(float(_MAX_ANSWER), sum(micro.trained for micro in plan.epoch_end[:-1]) / (each * plan.sources))
    prompts = sum(micro.padded for micro in plan.epoch_end[:-1]) * share / each
    # The expected answers are scored; of pairs both answers once more.
    scored = reading * share * (1.0 if each == 1 else 1.5)
    fixed = 2 * (prompts * speed.prompt_seconds + scored) + _loading(plan, rates)
    rounds = questions / min(_CONCURRENCY, questions) * speed.round_seconds

    def seconds(base: float, tuned: float) -> float:
        return fixed + rounds * (base + tuned)

    # The tuned model is taken to answer as long as the expected answers are; one that has not learned to stop goes on like the base.
    low = seconds(min(speed.tokens, expected), min(speed.tokens, expected))
    high = seconds(max(speed.tokens, expected), max(speed.tokens, expected))
    return Span(low=low * 0.7, likely=seconds(speed.tokens, expected), high=high * 1.5)


def _deployment(plan: Plan, rates: Rates) -> Span:
    """The model is loaded, unless the evaluation has it there, and answers one question; base and tuned are traced on it."""
    load = 0.0 if plan.sources and rates.answers is not None else _loading(plan, rates)
    if rates.answers is None:
        return _around(load, _OTHER_WIDTH)
    tokens = min(_MAX_TRACED, rates.answers.tokens)
    likely = load + _TRACED_ANSWERS * tokens * rates.answers.single_seconds
    longest = load + _TRACED_ANSWERS * _MAX_TRACED * rates.answers.single_seconds
    return Span(low=likely * 0.3, likely=likely, high=longest * 1.5 + 0.5)


def _loading(plan: Plan, rates: Rates) -> float:
    """Of the models that the engine host loads: the base with an adapter beside it, or the base and all tuned weights."""
    return rates.served_seconds * (2 if plan.full else 1)


def _buckets(steps: Sequence[PlannedStep], line: Line) -> tuple[LengthBucket, ...]:
    """The epoch's steps in up to four groups by the length of their longest row."""
    ordered = sorted(steps, key=lambda step: step.longest)
    found = []
    for group in np.array_split(np.arange(len(ordered)), min(_BUCKETS, len(ordered))):
        chosen = [ordered[i] for i in group]
        mean = statistics.mean(line.at(step.work) for step in chosen)
        found.append(LengthBucket(shortest=chosen[0].longest, longest=chosen[-1].longest, steps=len(chosen), seconds=mean))
    return tuple(found)


# ------------------------------------------------------------------------------------------------------------------- memory


def largest_activations(plan: Plan) -> int:
    """Bytes of the largest forward of the run, with gradients or without."""
    with_gradients = max(plan.activations(micro) for step in plan.steps for micro in step.micros)
    return max(with_gradients, max(plan.forward_activations(micro) for micro in plan.forwards()))


def peak_by_formula(plan: Plan, *, process_bytes: int) -> Span:
    """Peak resident memory from arithmetic alone, for a process that holds ``process_bytes`` before the model is loaded."""
    largest = largest_activations(plan)
    # Routines find room in the holes that large forwards leave.
    routines = max(0, plan.kernels() * KERNEL_BYTES - largest // 2) if plan.makes_routines else 0
    best = plan.spec.keep is Keep.BEST
    fixed = fixed_bytes(
        plan.shape,
        trainable=plan.trainable,
        full=plan.full,
        keeps_best=best,
        narrow=plan.narrow,
        mixed=plan.mixed,
        nf4=plan.nf4,
    )
    return spread_bytes(process_bytes + LOADED_CODE + fixed + largest + routines, Basis.FORMULA)


def peak_by_dry_run(plan: Plan, measured: Measurements) -> Span:
    """The dry run's own peak, what the run's largest forward takes beyond the largest that was carried out, and the heap's growth."""
    beyond = max(0, largest_activations(plan) - measured.peak_activations)
    likely = float(measured.peak_bytes + beyond)
    if plan.makes_routines:
        likely = (likely + heap_growth(measured.resident, plan.kernels())) * (1 + _HOLES)
    return spread_bytes(likely, Basis.DRY_RUN)


def heap_growth(resident: Sequence[tuple[int, int]], kernels: int) -> float:
    """Bytes by which the process grows between the last measured step and the end of the run.

    On the CPU each new number of rows makes new routines (``work.kernel_count``), and these stay. What one takes, with the holes that it
    leaves between the large blocks of a step, is the slope over the measured steps; but no run grew by more than it had in its first ones.
    Where those were too few, what one usually takes alone.
    """
    settled = resident[_FIRST_SETTLED:]
    if not settled:
        return 0.0
    more = max(0, kernels - settled[-1][0])
    counts = np.array([count for count, _ in settled], dtype=float)
    if len(settled) < _ENOUGH_TO_FIT or np.ptp(counts) == 0:
        return float(KERNEL_BYTES * more)
    slope = max(0.0, float(np.polyfit(counts, np.array([held for _, held in settled], dtype=float), 1)[0]))
    seen = settled[-1][1] - settled[0][1]
    return max(0.0, min(slope * more, float(seen)))


def spread_bytes(likely: float, basis: Basis) -> Span:
    """The interval of a peak."""
    width = _MEMORY_WIDTH[basis]
    return Span(low=likely * (1 - width), likely=float(likely), high=likely * (1 + width))
