"""A few real steps, forwards, saves and answers on this device with this model, timed and thrown away.

What it does: chooses batches of the job's own, runs them through the loop's own functions within a number of seconds, and notes the
largest memory. What it does not: keep anything, or conclude (``forecast.py``). It trains the model it is given: call it in a process
that ends afterwards. Called by ``worker/forecast_job.py``.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from luthier.core.specs import TuningMethod
from luthier.core.tokens import TokenizedExample
from luthier.models.language_model import LanguageModel
from luthier.training.attach import ADAPTER_NAME, attach
from luthier.training.evaluate import base_rows, forward_groups
from luthier.training.memory import keep_freed_memory, peak_resident_bytes, resident_bytes
from luthier.training.methods import base_measured_by, objective_of, read_beside
from luthier.training.noise import noised
from luthier.training.optimizer import build_optimizer, export_state, take_step
from luthier.training.packing import laid_out, scores_all, step_forwards
from luthier.training.plan import Plan, PlannedStep, read_ahead
from luthier.training.progress import Progress
from luthier.training.resume import ResumeState, ResumeStore
from luthier.training.tokens import TokenSource, examples_of
from luthier.training.turns import run_alone
from luthier.training.work import Micro, forward_work, micro_of, step_work

SECONDS = 10.0
_SHARE_OF_ONE = 0.25
"""No single step may take a larger share of the time, as far as the steps before it tell."""
_FEWEST_STEPS = 3
_SLOTS = 8
_ANSWER_TOKENS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One measured piece of work."""

    work: float
    """Floating-point operations."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSpeed:
    """How fast the base answers, as the engine host would let it."""

    prompt_seconds: float
    """Of reading one token of a prompt."""
    round_seconds: float
    """Of one token for each of eight answers."""
    single_seconds: float
    """Of one token of one answer."""
    tokens: float
    """Mean length of the base's own answers, at most 128."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """What the dry run saw."""

    steps: tuple[Timed, ...]
    forwards: tuple[Timed, ...]
    first_extra_seconds: float
    """What the first step takes beyond a usual one."""
    export_seconds: float
    """Of the copy that a resume state is written from; the loop waits for it."""
    write_seconds: float
    """Of writing it, beside the loop."""
    slowed: float
    """How many times as long a step takes while a state is written."""
    checkpoint_seconds: float
    prompts_seconds: float
    """Of the prompts that are asked after each epoch."""
    served_seconds: float
    """Until the base stands as the engine host has it and has read its first prompt; 0 where nothing could be asked."""
    answers: AnswerSpeed | None
    peak_bytes: int
    """Largest resident memory of this process."""
    peak_activations: int
    """What the formula says of the largest forward that was carried out, bytes."""
    resident: tuple[tuple[int, int], ...] = ()
    """After each step in the job's own order: routines made so far (``work.kernel_count``), resident bytes."""


class _Bench:
    """A model that learns for a few seconds."""

    def __init__(
        self, model: LanguageModel, plan: Plan, train: TokenSource, valid: TokenSource | None, parent_adapter: Path | None
    ) -> None:
        spec = plan.spec
        self.model, self.spec, self.plan, self.train = model, spec, plan, train
        self.adapter = ADAPTER_NAME if spec.method is TuningMethod.LORA else None
        self.parameters: list[nn.Parameter] = attach(model, spec, parent_adapter, self.adapter)
        self.optimizer = build_optimizer(self.parameters, spec)
        self.objective = objective_of(spec)
        self.objective.assume([source for source in (train, valid) if source is not None])
        self.beside = read_beside(spec, train)
        self.peak_activations = 0
        self.last: tuple[tuple[int, ...], float] = ((), 0.0)
        self.resident: list[tuple[int, int]] = []
        self._micros: list[Micro] = []
        self._forwards: list[Micro] = []
        model.module.train()

    def step(self, indices: Sequence[int]) -> float:
        """One optimiser step as the loop does it; returns its seconds."""
        for micro in self._ahead(indices):
            self.note_forward(micro)
        began = time.perf_counter()
        examples = self.train.examples
        total = self.objective.count(self.train, indices)
        objective = run_alone(self.objective.for_examples(self.model, self.train, examples_of(self.train, indices)))
        for group in step_forwards(self.spec, indices, self.train, self.model.facts):
            with laid_out(self.model, self.spec), noised(self.model, self.spec, 1, group):
                sums = objective.sums(self.model, self.train, group)
                float(sums.loss.detach())
                (sums.loss / total).backward()
            self._note(micro_of(group, examples, end_to_end=self.spec.packing, all_scored=scores_all(self.spec)))
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if float(norm) > self.spec.max_grad_norm:
            nn.utils.clip_grads_with_norm_(self.parameters, self.spec.max_grad_norm, norm)
        take_step(self.optimizer, self.parameters, 0.0)
        return time.perf_counter() - began

    def work(self, indices: Sequence[int]) -> float:
        """Operations of such a step."""
        groups = step_forwards(self.spec, indices, self.train, self.model.facts)
        sizes = {"end_to_end": self.spec.packing, "all_scored": scores_all(self.spec)}
        micros = [micro_of(group, self.train.examples, **sizes) for group in groups]
        ahead = sum(forward_work(micro, self.plan.shape) for micro in self._ahead(indices))
        return step_work(micros, self.plan.shape, full=self.plan.full) + ahead

    def timed(self, indices: Sequence[int]) -> Timed:
        """A step whose time counts."""
        seconds = self.step(indices)
        self.last = (tuple(indices), seconds)
        return Timed(work=self.work(indices), seconds=seconds)

    def kernels(self) -> int:
        """Shapes for which the CPU library has made a routine so far."""
        return self.plan.kernels(self._micros, self._forwards)

    def note_forward(self, micro: Micro) -> None:
        """A forward without gradients was carried out."""
        self._forwards.append(micro)
        self.peak_activations = max(self.peak_activations, self.plan.forward_activations(micro))

    def _ahead(self, indices: Sequence[int]) -> tuple[Micro, ...]:
        return read_ahead(self.beside, examples_of(self.train, indices), facts=self.model.facts)

    def _note(self, micro: Micro) -> None:
        self._micros.append(micro)
        self.peak_activations = max(self.peak_activations, self.plan.activations(micro))


def dry_run(
    model: LanguageModel,
    plan: Plan,
    train: TokenSource,
    valid: TokenSource | None,
    folder: Path,
    *,
    parent_adapter: Path | None = None,
    engine_threads: int = 1,
    stop_ids: frozenset[int] = frozenset(),
    seconds: float = SECONDS,
    progress: Callable[[str], None] = lambda _: None,
    asking: Callable[[], object] = lambda: None,
    answering: Callable[[], LanguageModel] | None = None,
) -> Measurements:
    """Measure. Takes about ``seconds`` and the saves; a step that would take long is cut to fewer rows.

    Args:
        model: freshly loaded; it is changed.
        plan, train, valid: the job's.
        folder: empty, for a resume state and a checkpoint.
        parent_adapter: as the trainer has it.
        engine_threads: CPU threads of the engine host, which answers.
        stop_ids: tokens that end an answer.
        seconds: of steps, forwards and answers together.
        progress: told what is being measured.
        asking: asks the prompts of an epoch's end, as the job does.
        answering: loads the base as the engine host has it, where that is not as it trains.
    """
    torch.set_num_threads(plan.spec.num_threads)
    keep_freed_memory()
    bench = _Bench(model, plan, train, valid, parent_adapter)
    progress("forwards")
    with model.use_adapter(None):
        forwards = _forwards(bench, valid, until=time.perf_counter() + 0.2 * seconds)
    progress("steps")
    with model.use_adapter(bench.adapter):
        first_extra, steps = _steps(bench, until=time.perf_counter() + 0.6 * seconds)
        progress("saves")
        export, write, slowed = _resume(bench, folder)
        checkpoint = _checkpoint(bench, folder / "checkpoint")
        progress("answers")
        prompts = _seconds_of(asking)
    peak = peak_resident_bytes()
    served, answers = _served(answering or (lambda: model), (valid or train).examples, engine_threads, stop_ids, 0.2 * seconds)
    return Measurements(
        steps=tuple(steps),
        forwards=tuple(forwards),
        first_extra_seconds=first_extra,
        export_seconds=export,
        write_seconds=write,
        slowed=slowed,
        checkpoint_seconds=checkpoint,
        prompts_seconds=prompts,
        served_seconds=served,
        answers=answers,
        peak_bytes=peak,
        peak_activations=bench.peak_activations,
        resident=tuple(bench.resident),
    )


def _seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _forwards(bench: _Bench, valid: TokenSource | None, *, until: float) -> list[Timed]:
    """The base on the rows that measure it, in the order in which that is done, as far as the time goes; at least two forwards."""
    model = bench.model
    source = valid or bench.train
    objective, all_scored = base_measured_by(bench.objective, bench.spec, held_out=valid is not None)
    groups = forward_groups(source, base_rows(bench.train, valid), model.facts, all_scored=all_scored)
    found: list[Timed] = []
    model.module.eval()
    with torch.no_grad():
        objective.sums(model, source, groups[-1][: source.rows_per_example])  # the first one packs the weights
        for group in groups:
            if len(found) > 1 and time.perf_counter() > until:
                break
            micro = micro_of(group, source.examples, all_scored=all_scored)
            began = time.perf_counter()
            objective.sums(model, source, group)
            found.append(Timed(work=forward_work(micro, bench.plan.shape), seconds=time.perf_counter() - began))
            bench.note_forward(micro)
    model.module.train()
    return found


def _steps(bench: _Bench, *, until: float) -> tuple[float, list[Timed]]:
    """The job's own steps in its own order, then the one that takes most memory; returns the first one's extra time too.

    The order matters: a heap that grows by rows of odd lengths ends up larger than one that saw the longest first.
    """
    budget = until - time.perf_counter()
    planned = iter(bench.plan.steps)
    small = bench.plan.first_epoch[0].indices[: bench.train.rows_per_example]
    first = bench.step(small)
    usual = bench.step(small)
    speed = bench.work(small) / usual
    found: list[Timed] = []
    for step in planned:
        found.append(bench.timed(_within(bench, step.indices, speed * budget * _SHARE_OF_ONE)))
        bench.resident.append((bench.kernels(), resident_bytes()))
        speed = statistics.median(timed.work / timed.seconds for timed in found)
        if len(found) >= _FEWEST_STEPS and time.perf_counter() + budget * _SHARE_OF_ONE > until:
            break
    found.append(bench.timed(_within(bench, _worst(bench.plan).indices, speed * budget * _SHARE_OF_ONE)))
    return max(0.0, first - usual), found


def _worst(plan: Plan) -> PlannedStep:
    """The step whose forward takes most memory."""
    return max(plan.steps, key=lambda step: max(plan.activations(micro) for micro in step.micros))


def _within(bench: _Bench, indices: Sequence[int], most_work: float) -> tuple[int, ...]:
    """The batch, or as many of its examples as stay below this work; the longest first, and always one."""
    each, rows = bench.train.rows_per_example, bench.train.examples
    kept = [indices[at : at + each] for at in range(0, len(indices), each)]
    kept.sort(key=lambda example: -max(rows[row].num_tokens for row in example))
    while len(kept) > 1 and bench.work([row for example in kept for row in example]) > most_work:
        kept = kept[: len(kept) // 2]
    return tuple(row for example in kept for row in example)


def _resume(bench: _Bench, folder: Path) -> tuple[float, float, float]:
    """Seconds of a resume state's copy and of its writing, and how much slower a step is meanwhile."""
    store = ResumeStore(folder / "resume", "dry run")
    began = time.perf_counter()
    tensors = export_state(bench.parameters, bench.optimizer)
    export = time.perf_counter() - began
    store.save(ResumeState(Progress(step=1), tensors))
    repeated, usual = bench.last
    beside: list[float] = []
    while store.busy and len(beside) < 5:
        began = time.perf_counter()
        bench.step(repeated)
        if store.busy or not beside:
            beside.append(time.perf_counter() - began)
    store.wait()
    write = sum(report.seconds for report in store.finished())
    # A state that is written before a step is through slows nobody.
    slowed = statistics.median(beside) / usual if beside and write > usual else 1.0
    return export, write, min(3.0, max(1.0, slowed))


def _checkpoint(bench: _Bench, folder: Path) -> float:
    """Seconds of a checkpoint's folder, as far as the model writes it."""
    folder.mkdir(parents=True)
    began = time.perf_counter()
    if bench.adapter is not None:
        bench.model.save_adapter(bench.adapter, folder, base_name="dry run")
    else:
        bench.model.save_full(folder)
    return time.perf_counter() - began


def _served(
    load: Callable[[], LanguageModel], examples: Sequence[TokenizedExample], threads: int, stop_ids: frozenset[int], seconds: float
) -> tuple[float, AnswerSpeed | None]:
    """Seconds until the base stands as it is served, and how it answers."""
    began = time.perf_counter()
    model = load()
    loading = time.perf_counter() - began
    model.module.eval()
    with model.use_adapter(None):
        first, answers = _answers(model, examples, threads, stop_ids, until=time.perf_counter() + seconds)
    return loading + first, answers


def _answers(
    model: LanguageModel, examples: Sequence[TokenizedExample], threads: int, stop_ids: frozenset[int], *, until: float
) -> tuple[float, AnswerSpeed | None]:
    """What reading a first prompt takes beyond a usual one, and greedy answers of the base to some prompts; 0 and None where no row has a
    prompt that leaves room for an answer."""
    torch.set_num_threads(threads)
    prompts = [example.rendered.ids_T[: int(np.nonzero(example.rendered.weights_T)[0][0])] for example in examples[: 4 * _SLOTS]]
    prompts = [ids for ids in prompts if 0 < len(ids) < model.facts.max_length][:_SLOTS]
    if not prompts:
        return 0.0, None
    longest = min(model.facts.max_length, max(map(len, prompts)) + _ANSWER_TOKENS)
    cache = model.new_cache(len(prompts), longest)
    first = _seconds_of(lambda: model.prefill(cache, 0, torch.from_numpy(prompts[0])))
    began = time.perf_counter()
    tokens = [int(model.prefill(cache, slot, torch.from_numpy(ids)).argmax()) for slot, ids in enumerate(prompts)]
    prompt_seconds = (time.perf_counter() - began) / sum(map(len, prompts))
    limit = min(_ANSWER_TOKENS, longest - max(map(len, prompts)))
    lengths = [1] * len(prompts)
    active = [slot for slot in range(len(prompts)) if tokens[slot] not in stop_ids]
    rounds: dict[int, list[float]] = {}
    while active and max(lengths) < limit and time.perf_counter() < until:
        began = time.perf_counter()
        logits = model.decode(cache, active, [tokens[slot] for slot in active])
        rounds.setdefault(len(active), []).append(time.perf_counter() - began)
        for slot, best in zip(list(active), logits.argmax(-1).tolist(), strict=True):
            tokens[slot], lengths[slot] = int(best), lengths[slot] + 1
            if best in stop_ids:
                active.remove(slot)
    most = max(rounds, default=0)
    single = _single(model, tokens[0])
    # An answer that time cut short would have gone on; nobody knows how far.
    mean = statistics.mean(limit if slot in active else lengths[slot] for slot in range(len(prompts)))
    full_round = statistics.median(rounds[most]) if most else single
    speed = AnswerSpeed(prompt_seconds=prompt_seconds, round_seconds=full_round, single_seconds=single, tokens=mean)
    return max(0.0, first - prompt_seconds * len(prompts[0])), speed


def _single(model: LanguageModel, token: int) -> float:
    """Seconds of one token of one answer."""
    one = model.new_cache(1, min(16, model.facts.max_length))
    model.prefill(one, 0, [token])
    times = []
    for _ in range(6):
        began = time.perf_counter()
        model.decode(one, [0], [token])
        times.append(time.perf_counter() - began)
    return statistics.median(times)
