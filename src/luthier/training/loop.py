"""The training loop: a page that calls named steps.

What it does: order of the data, steps, validation, epoch ends, when to save a resume state; all of it in turns, so that several runs
can share one base. What it does not: choose numbers (``resolve.py``), compute a loss (the objective does), publish anything (the hooks'
owner does), decide whose turn it is (``worker/floor.py``). Called by ``worker/pipelines.py``.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from luthier.core.specs import TrainingSpec, TuningMethod
from luthier.models.language_model import LanguageModel
from luthier.trace.events import BaseMeasured, EpochDone, StepDone, StepSkipped
from luthier.training.answers import asking, may_ask_together
from luthier.training.attach import ADAPTER_NAME, attach
from luthier.training.best import BestWeights
from luthier.training.evaluate import Measured, base_rows, check_rows, means_of, measure, measuring
from luthier.training.forwards import StepForwards
from luthier.training.guard import REPORTED_LINES, NotFinite, failure, judged, nothing_learned
from luthier.training.hooks import TrainerHooks
from luthier.training.memory import keep_freed_memory
from luthier.training.methods import base_measured_by, measured_by, objective_of
from luthier.training.objective import Totals
from luthier.training.optimizer import build_optimizer, export_state, import_state, take_step
from luthier.training.progress import Progress, TrainResult
from luthier.training.reference import ReferenceStore
from luthier.training.replicas import Replicas
from luthier.training.resume import ResumeState, ResumeStore, resume_interval
from luthier.training.row_losses import RowLosses
from luthier.training.schedule import learning_rate_at
from luthier.training.step_figures import StepMeter
from luthier.training.together import OfferedStep, may_join
from luthier.training.tokens import TokenSource, num_examples, rows_of
from luthier.training.turns import OwnTurn, Turns, random_state, run_alone, set_random_state


class Trainer:
    """Trains one model in place, from the start or from the newest resume state in ``state_dir``.

    With LoRA the tuned weights end up as the model's adapter ``"tuned"``, or of another name; with full tuning in the model itself.
    Several trainers may train adapters of different names on one model, turn by turn in one thread: each has its own optimizer, random
    numbers and mode, so that each ends bit for bit as it would alone.
    """

    def __init__(
        self,
        model: LanguageModel,
        spec: TrainingSpec,
        train: TokenSource,
        valid: TokenSource | None,
        hooks: TrainerHooks,
        state_dir: Path,
        *,
        resume_seconds: float = 60.0,
        resume_share: float = 0.05,
        resume_pause: float = 0.0,
        parent_adapter: Path | None = None,
        adapter: str = ADAPTER_NAME,
        compiled: bool | None = None,
        matrix_rate: float | None = None,
        run_dir: Path | None = None,
        replicas: Sequence[LanguageModel] = (),
    ) -> None:
        """``parent_adapter``: a saved adapter to go on from (continued tuning); ``adapter``: the name of the tuned one.

        ``compiled``: see ``LanguageModel.compiled``; None: as the model has it now. ``matrix_rate``: the device's, see
        ``matrix_rate.py``. ``run_dir``: where each epoch's losses by row go; None: nowhere. ``replicas``: the same model on each of
        ``spec.more_devices``. ``resume_pause``: least seconds between two resume states. The rest as in ``core.settings``.
        """
        self._model = model
        self._spec = spec
        self._train = train
        self._valid = valid
        self._hooks = hooks
        self._store = ResumeStore(state_dir, spec.identity())
        self._resume_seconds, self._resume_pause = resume_seconds, resume_pause
        self._resume_steps = resume_interval(spec.total_steps, resume_share)
        self._adapter = adapter if spec.method is TuningMethod.LORA else None
        self._turn = OwnTurn(model, num_threads=spec.num_threads, compiled=model.compiled if compiled is None else compiled)
        self._parent_adapter = parent_adapter
        self._objective = objective_of(spec)
        self._measures = measured_by(self._objective)
        self._reference = ReferenceStore(state_dir / "reference", spec.identity(), seconds=resume_seconds)
        self._saved_at = (0, time.monotonic())
        self._replicas = Replicas(replicas, spec)
        self._forwards = StepForwards(model, spec, self._objective, train, hooks.happened, self._replicas)
        self._rows = RowLosses(train, run_dir)
        self._meter = StepMeter(model, spec, matrix_rate)
        self._best, self._joins, self._asks = BestWeights(spec), False, False

    def run(self) -> TrainResult:
        """Train to the end, or until ``should_stop``.

        Raises:
            JobFailure: code ``nan_loss``: loss or gradient was infinite or not a number for too many steps in a row; code
                ``insufficient_memory``: a row alone does not fit into the device's memory.
            StorageFull, OSError: a resume state could not be written.
        """
        try:
            return run_alone(self.turns())
        finally:
            self.wait_for_saves()
            self._model.module.eval()

    def turns(self, *, joins: bool = False) -> Turns[TrainResult]:
        """``run`` in turns, for whoever shares the model among several runs; see ``Turns``. Afterwards ``wait_for_saves``.

        ``joins``: steps are offered to be done with those of others (``together.py``), where they can be.

        Raises:
            As ``run``.
        """
        self._joins = joins
        work = self._work()
        while True:
            try:
                with self._turn():
                    beside = next(work)
            except StopIteration as end:
                return end.value
            yield beside

    def wait_for_saves(self) -> None:
        """Return when nothing is being written any more. Needs no turn."""
        self._store.wait()

    def _work(self) -> Turns[TrainResult]:
        keep_freed_memory()
        parameters = attach(self._model, self._spec, self._parent_adapter, self._adapter)
        self._replicas.attach(self._parent_adapter, self._adapter)
        self._asks = self._joins and may_ask_together(self._model, self._adapter)
        self._joins = self._joins and may_join(self._model, self._spec, self._adapter)
        if not (yield from self._prepare()):
            return TrainResult(steps=0, epoch=1, tokens_seen=0, trained_tokens=0, stopped=True, metrics={})
        optimizer = build_optimizer(parameters, self._spec)
        progress = self._restore(parameters, optimizer)
        if not progress.base_measured:
            progress = yield from self._measure_base(progress)
        self._turn.adapter = self._adapter
        yield None
        progress, stopped = yield from self._epochs(progress, parameters, optimizer)
        yield self._store.wait
        self._report_saves()
        return TrainResult(
            steps=progress.step,
            epoch=progress.epoch,
            tokens_seen=progress.tokens_seen,
            trained_tokens=progress.trained_tokens,
            stopped=stopped,
            metrics=dict(progress.best_metrics if self._ends_with_best(progress) else progress.metrics),
        )

    def _epochs(
        self, progress: Progress, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> Turns[tuple[Progress, bool]]:
        spec = self._spec
        self._tell_choice(progress, progress.epoch - 1)
        while not self._is_over(progress):
            batches = self._train.epoch_batches(batch_size=spec.batch_size, seed=spec.seed, epoch=progress.epoch)
            while progress.batch_index < len(batches):
                if self._hooks.should_stop():
                    yield from self._save_resume(progress, parameters, optimizer)
                    return progress, True
                progress = yield from self._step(progress, batches[progress.batch_index], parameters, optimizer)
                if progress.batch_index < len(batches) and self._resume_is_due(progress.step):
                    yield from self._save_resume(progress, parameters, optimizer)
                self._report_saves()
                if not self._joins:  # else the next step's offer is the end of this turn
                    yield None
            progress = yield from self._finish_epoch(progress, parameters)
            # After the hooks, so that a checkpoint never lies behind the position that a resume starts from.
            moves = not self._is_over(progress) or self._ends_with_best(progress)
            yield from self._save_resume(progress, parameters, optimizer, copied=moves)
        if self._ends_with_best(progress):
            self._best.put_back(parameters)
            yield partial(self._hooks.save_checkpoint, progress.best_epoch, progress.best_step, dict(progress.best_metrics))
        return progress, False

    def _is_over(self, progress: Progress) -> bool:
        return progress.epoch > self._spec.n_epochs or progress.ended

    def _ends_with_best(self, progress: Progress) -> bool:
        """The run is over, and an earlier epoch's weights become the model."""
        chosen = self._best.choice(progress, progress.epoch - 1)
        return chosen is not None and chosen.step != progress.step

    def _tell_choice(self, progress: Progress, epoch: int) -> None:
        chosen = self._best.choice(progress, epoch)
        if chosen is not None:
            self._hooks.happened(chosen)

    def _prepare(self) -> Turns[bool]:
        """What the objective must know of the start: before a resume state brings learned weights back."""
        sources = [source for source in (self._train, self._valid) if source is not None]
        start = self._adapter if self._parent_adapter is not None else None
        return self._objective.prepare(self._model, sources, adapter=start, store=self._reference, hooks=self._hooks)

    def _restore(self, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer) -> Progress:
        torch.manual_seed(self._spec.seed)
        self._saved_at = (0, time.monotonic())
        state = self._store.latest()
        if state is None:
            return Progress()
        # A step that was skipped is none to the optimizer.
        import_state(parameters, optimizer, state.tensors, step=state.progress.step - state.progress.skipped_steps)
        set_random_state(state.tensors, self._model.device)
        self._rows.restore(state.tensors)
        self._best.restore(state.tensors)
        self._saved_at = (state.progress.step, time.monotonic())
        return state.progress

    def _measure_base(self, progress: Progress) -> Turns[Progress]:
        source, examples = self._valid or self._train, base_rows(self._train, self._valid)
        known = self._objective.at_start(source, rows_of(source, examples))
        if known is not None:
            measured = means_of(known, self._objective)
        else:
            objective, scored = base_measured_by(self._objective, self._spec, held_out=self._valid is not None)
            measured = yield from measuring(self._model, source, examples, objective=objective, all_scored=scored)
        report = BaseMeasured(
            loss=measured.loss, accuracy=measured.accuracy, held_out=self._valid is not None, preference=measured.preference
        )
        yield from asking(self._model, None, self._hooks.base_measured(report), joins=self._asks)
        return replace(progress, base_measured=True)

    def _step(
        self, progress: Progress, indices: list[int], parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> Turns[Progress]:
        """One optimiser step, its report, and the sums that go on from it."""
        spec, step = self._spec, progress.step + 1
        lines = sorted(set(self._lines(indices)))
        offer = yield from self._offered(indices, parameters)
        began = time.perf_counter() - (offer.seconds if offer else 0.0)
        try:
            sums, grad_norm, groups = self._learn(step, indices, parameters, offer)
        except NotFinite as found:
            optimizer.zero_grad(set_to_none=True)
            return self._skipped(progress.skipped(time.perf_counter() - began), found)
        verdict = judged(progress, spec, step=step, loss=sums.loss / sums.count, lines=lines)
        if verdict.spike is not None:
            self._hooks.happened(verdict.spike)
        progress = verdict.progress
        rate = learning_rate_at(step, spec) * progress.rate_factor
        take_step(optimizer, parameters, rate)
        figures = self._meter.figures(groups, self._train.examples, time.perf_counter() - began)
        means = means_of(sums, self._objective)
        metrics = {**progress.metrics, "step": float(step), **means.named("train")}
        checked = self._check(step)
        if checked is not None:
            metrics |= checked.named("valid")
        seconds = time.perf_counter() - began
        self._hooks.step_done(
            StepDone(
                step=step,
                total_steps=spec.total_steps,
                epoch=progress.epoch,
                loss=means.loss,
                token_accuracy=means.accuracy,
                num_tokens=sums.num_tokens,
                learning_rate=rate,
                grad_norm=grad_norm,
                seconds=seconds,
                valid_loss=checked.loss if checked else None,
                valid_accuracy=checked.accuracy if checked else None,
                lines=tuple(lines[:REPORTED_LINES]),
                preference=means.preference,
                valid_preference=checked.preference if checked else None,
                **asdict(figures),
            )
        )
        return progress.after(sums, tokens=figures.tokens, seconds=seconds, metrics=metrics)

    def _skipped(self, progress: Progress, found: NotFinite) -> Progress:
        """Go on behind a step that changed nothing, or end the run when there are too many of them in a row."""
        spec, in_row = self._spec, progress.skipped_in_row
        if in_row > spec.max_skipped_steps:
            raise failure(found, spec, step=progress.step, in_row=in_row)
        self._hooks.happened(
            StepSkipped(
                step=progress.step,
                total_steps=spec.total_steps,
                epoch=progress.epoch,
                what=found.what,
                lines=found.lines[:REPORTED_LINES],
                in_row=in_row,
                allowed=spec.max_skipped_steps,
            )
        )
        return progress

    def _offered(self, indices: list[int], parameters: Sequence[nn.Parameter]) -> Turns[OfferedStep | None]:
        """The step as somebody did it with those of other runs; None where nobody did."""
        adapter = self._adapter
        if not self._joins or adapter is None:
            return None
        groups = self._forwards.cut(indices)
        if len(groups) > 1:
            yield None
            return None
        total = self._objective.count(self._train, indices)
        offer = OfferedStep(self._model, adapter, self._train, groups[0], total, parameters)
        yield offer
        return offer if offer.sums is not None else None

    def _learn(
        self, step: int, indices: list[int], parameters: Sequence[nn.Parameter], offer: OfferedStep | None
    ) -> tuple[Totals, float, list[list[int]]]:
        """Forward and backward over the step's micro-batches, where that is still to be done; the loss is divided once, by all trained
        tokens (or pairs) of the step.

        Returns the sums, the norm of the gradient before it was cut, and the rows of each forward.
        """
        total = self._objective.count(self._train, indices)
        # Preprocessing gives no example without a trained token; a step on nothing would divide by zero and teach nonsense.
        assert total > 0, f"step {step} has no trained token"
        groups, parts = self._forwards.learn(step, indices, total, parameters, offer.sums if offer else None)
        totals = Totals()
        # Read after the last backward: on a GPU every reading waits for all that was asked of it.
        for group, part in zip(groups, parts, strict=True):
            totals = totals.plus(part)
            if not math.isfinite(totals.loss):
                raise NotFinite("loss", self._lines(group))
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        grad_norm = float(norm)
        if not math.isfinite(grad_norm):
            raise NotFinite("gradient", self._lines(indices))
        for group, part in zip(groups, parts, strict=True):
            self._rows.add(group, part.losses_N)
        # torch's clip_grad_norm_ would also multiply every gradient by 1 when there is nothing to clip.
        if grad_norm > self._spec.max_grad_norm:
            nn.utils.clip_grads_with_norm_(parameters, self._spec.max_grad_norm, norm)
        return totals, grad_norm, groups

    def _lines(self, rows: Sequence[int]) -> list[int]:
        return [self._train.examples[row].source.line for row in rows]

    def _check(self, step: int) -> Measured | None:
        """A small validation batch, when one is due; the batches walk through the whole set in turn."""
        rows = check_rows(step, self._spec, num_examples(self._valid)) if self._valid is not None else None
        return measure(self._model, self._valid, rows, objective=self._measures) if self._valid is not None and rows is not None else None

    def _finish_epoch(self, progress: Progress, parameters: Sequence[nn.Parameter]) -> Turns[Progress]:
        began = self._turn.seconds
        if not progress.epoch_tokens:
            raise nothing_learned(progress.epoch)
        metrics = dict(progress.metrics)
        measures, count = self._measures, progress.epoch_count or progress.epoch_tokens
        full = (yield from measuring(self._model, self._valid, objective=measures)) if self._valid is not None else None
        if full is not None:
            metrics |= full.named("full_valid")
        sample = measure(self._model, self._train, [0], objective=measures)
        self._rows.finish(progress.epoch)
        questions = self._hooks.epoch_done(
            EpochDone(
                epoch=progress.epoch,
                n_epochs=self._spec.n_epochs,
                step=progress.step,
                train_loss=progress.epoch_loss_sum / count,
                train_accuracy=progress.epoch_correct / progress.epoch_tokens,
                valid_loss=full.loss if full else None,
                valid_accuracy=full.accuracy if full else None,
                sample_loss=sample.loss,
                seconds=progress.epoch_seconds + self._turn.seconds - began,
                preference=measures.means(progress.epoch_parts, count),
                valid_preference=full.preference if full else None,
            )
        )
        yield from asking(self._model, self._adapter, questions, joins=self._asks)
        progress = self._best.judged(replace(progress, metrics=metrics), full.loss if full else None, parameters)
        self._tell_choice(progress, progress.epoch)
        yield partial(self._hooks.save_checkpoint, progress.epoch, progress.step, dict(metrics))
        return progress.next_epoch()

    def _resume_is_due(self, step: int) -> bool:
        steps, seconds = step - self._saved_at[0], time.monotonic() - self._saved_at[1]
        due = (steps >= self._resume_steps and seconds >= self._resume_pause) or seconds >= self._resume_seconds
        return due and not self._store.busy

    def _save_resume(
        self, progress: Progress, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, *, copied: bool = True
    ) -> Turns[None]:
        """``copied``: as ``export_state`` has it."""
        if self._store.busy:
            yield self._store.wait
        learned = export_state(parameters, optimizer, copied=copied)
        tensors = {**learned, **random_state(self._model.device), **self._rows.state(), **self._best.state()}
        self._store.save(ResumeState(progress, tensors))
        self._saved_at = (progress.step, time.monotonic())

    def _report_saves(self) -> None:
        for report in self._store.finished():
            self._hooks.resume_saved(report)
