"""The training loop: a page that calls named steps.

What it does: order of the data, steps, validation, epoch ends, when to save a resume state. What it does not: choose numbers
(``resolve.py``), compute a loss (``sft.py``), publish anything (the hooks' owner does). Called by ``worker/pipelines.py``.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from luthier.core.errors import JobFailure
from luthier.core.specs import LoraKind, TrainingSpec, TuningMethod
from luthier.models.adapter_form import AdapterForm
from luthier.models.language_model import LanguageModel
from luthier.trace.events import BaseMeasured, EpochDone, StepDone
from luthier.training.evaluate import Measured, base_rows, check_rows, measure
from luthier.training.hooks import TrainerHooks
from luthier.training.memory import keep_freed_memory
from luthier.training.optimizer import build_optimizer, export_state, import_state, take_step
from luthier.training.progress import Progress
from luthier.training.resume import ResumeState, ResumeStore
from luthier.training.schedule import learning_rate_at
from luthier.training.sft import LossSums, micro_batches, room_on, sft_sums
from luthier.training.tokens import TokenSource

ADAPTER_NAME = "tuned"
_NAMED_LINES = 10
_REPORTED_LINES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """How a run ended."""

    steps: int
    epoch: int
    """The epoch under way when it stopped; one more than there are when it did not."""
    tokens_seen: int
    """Tokens of all rows over all epochs, padding not counted: what OpenAI bills and calls ``trained_tokens``."""
    trained_tokens: int
    """Those of them that counted in the loss."""
    stopped: bool
    """True when ``should_stop`` ended the run early; its resume state is on disk."""
    metrics: dict[str, float]
    """The latest metrics, in the keys of OpenAI's checkpoint object."""


@dataclass(frozen=True, slots=True)
class _StepSums:
    loss_sum: float
    num_tokens: int
    num_correct: int
    grad_norm: float


class Trainer:
    """Trains one model in place, from the start or from the newest resume state in ``state_dir``.

    With LoRA the tuned weights end up as the model's adapter ``"tuned"``; with full tuning in the model itself.
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
        parent_adapter: Path | None = None,
    ) -> None:
        """``parent_adapter``: a saved adapter to go on from (continued tuning). The rest as in ``core.settings``."""
        self._model = model
        self._spec = spec
        self._train = train
        self._valid = valid
        self._hooks = hooks
        self._store = ResumeStore(state_dir, spec.identity())
        self._resume_seconds = resume_seconds
        self._resume_steps = resume_interval(spec.total_steps, resume_share)
        self._adapter = ADAPTER_NAME if spec.method is TuningMethod.LORA else None
        self._parent_adapter = parent_adapter
        self._saved_at = (0, time.monotonic())
        self._room = room_on(model)

    def run(self) -> TrainResult:
        """Train to the end, or until ``should_stop``.

        Raises:
            JobFailure: code ``nan_loss``: loss or gradient became infinite or not a number.
            StorageFull, OSError: a resume state could not be written.
        """
        # The number of threads decides the order of sums, hence the bits: it is part of the spec.
        torch.set_num_threads(self._spec.num_threads)
        keep_freed_memory()
        parameters = attach(self._model, self._spec, self._parent_adapter)
        optimizer = build_optimizer(parameters, self._spec)
        progress = self._restore(parameters, optimizer)
        self._model.module.train()
        try:
            if not progress.base_measured:
                progress = self._measure_base(progress)
            with self._model.use_adapter(self._adapter):
                progress, stopped = self._epochs(progress, parameters, optimizer)
        finally:
            self._store.wait()
            self._model.module.eval()
        self._report_saves()
        return TrainResult(
            steps=progress.step,
            epoch=progress.epoch,
            tokens_seen=progress.tokens_seen,
            trained_tokens=progress.trained_tokens,
            stopped=stopped,
            metrics=dict(progress.metrics),
        )

    def _epochs(self, progress: Progress, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer) -> tuple[Progress, bool]:
        spec = self._spec
        while progress.epoch <= spec.n_epochs:
            batches = self._train.epoch_batches(batch_size=spec.batch_size, seed=spec.seed, epoch=progress.epoch)
            while progress.batch_index < len(batches):
                if self._hooks.should_stop():
                    self._save_resume(progress, parameters, optimizer)
                    return progress, True
                progress = self._step(progress, batches[progress.batch_index], parameters, optimizer)
                if progress.batch_index < len(batches) and self._resume_is_due(progress.step):
                    self._save_resume(progress, parameters, optimizer)
                self._report_saves()
            progress = self._finish_epoch(progress)
            # After the hooks, so that a checkpoint never lies behind the position that a resume starts from.
            self._save_resume(progress, parameters, optimizer)
        return progress, False

    def _restore(self, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer) -> Progress:
        torch.manual_seed(self._spec.seed)
        self._saved_at = (0, time.monotonic())
        state = self._store.latest()
        if state is None:
            return Progress()
        import_state(parameters, optimizer, state.tensors, step=state.progress.step)
        torch.set_rng_state(state.tensors["random.cpu"])
        if "random.device" in state.tensors:
            torch.cuda.set_rng_state(state.tensors["random.device"], self._model.device)
        self._saved_at = (state.progress.step, time.monotonic())
        return state.progress

    def _measure_base(self, progress: Progress) -> Progress:
        source = self._valid or self._train
        with self._model.use_adapter(None):
            measured = measure(self._model, source, base_rows(self._train, self._valid))
        self._hooks.base_measured(BaseMeasured(loss=measured.loss, accuracy=measured.accuracy, held_out=self._valid is not None))
        return replace(progress, base_measured=True)

    def _step(
        self, progress: Progress, indices: list[int], parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> Progress:
        """One optimiser step, its report, and the sums that go on from it."""
        spec = self._spec
        began = time.perf_counter()
        step = progress.step + 1
        rate = learning_rate_at(step, spec)
        sums = self._learn(step, indices, parameters)
        take_step(optimizer, parameters, rate)
        loss, accuracy = sums.loss_sum / sums.num_tokens, sums.num_correct / sums.num_tokens
        metrics = {**progress.metrics, "step": float(step), "train_loss": loss, "train_mean_token_accuracy": accuracy}
        checked = self._check(step)
        if checked is not None:
            metrics |= {"valid_loss": checked.loss, "valid_mean_token_accuracy": checked.accuracy}
        seconds = time.perf_counter() - began
        self._hooks.step_done(
            StepDone(
                step=step,
                total_steps=spec.total_steps,
                epoch=progress.epoch,
                loss=loss,
                token_accuracy=accuracy,
                num_tokens=sums.num_tokens,
                learning_rate=rate,
                grad_norm=sums.grad_norm,
                seconds=seconds,
                valid_loss=checked.loss if checked else None,
                valid_accuracy=checked.accuracy if checked else None,
                lines=tuple(sorted(self._train.examples[index].source.line for index in indices)[:_REPORTED_LINES]),
            )
        )
        return replace(
            progress,
            step=step,
            batch_index=progress.batch_index + 1,
            epoch_loss_sum=progress.epoch_loss_sum + sums.loss_sum,
            epoch_tokens=progress.epoch_tokens + sums.num_tokens,
            epoch_correct=progress.epoch_correct + sums.num_correct,
            epoch_seconds=progress.epoch_seconds + seconds,
            tokens_seen=progress.tokens_seen + sum(self._train.examples[index].num_tokens for index in indices),
            trained_tokens=progress.trained_tokens + sums.num_tokens,
            metrics=metrics,
        )

    def _learn(self, step: int, indices: list[int], parameters: Sequence[nn.Parameter]) -> _StepSums:
        """Forward and backward over the step's micro-batches; the loss is divided once, by all trained tokens of the step."""
        examples = self._train.examples
        total = sum(examples[index].rendered.num_trained for index in indices)
        # Preprocessing gives no example without a trained token; a step on nothing would divide by zero and teach nonsense.
        assert total > 0, f"step {step} has no trained token"
        groups = micro_batches(indices, examples, self._model.facts, self._room)
        parts: list[LossSums] = []
        for group in groups:
            sums = sft_sums(self._model, self._train.batch(group))
            (sums.loss / total).backward()
            parts.append(replace(sums, loss=sums.loss.detach()))
        loss_sum, num_correct = 0.0, 0
        # Read after the last backward: on a GPU every reading waits for all that was asked of it.
        for group, part in zip(groups, parts, strict=True):
            loss_sum += float(part.loss)
            if not math.isfinite(loss_sum):
                raise self._not_finite("loss", step, group)
            num_correct += int(part.num_correct)
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        grad_norm = float(norm)
        if not math.isfinite(grad_norm):
            raise self._not_finite("gradient", step, indices)
        # torch's clip_grad_norm_ would also multiply every gradient by 1 when there is nothing to clip.
        if grad_norm > self._spec.max_grad_norm:
            nn.utils.clip_grads_with_norm_(parameters, self._spec.max_grad_norm, norm)
        return _StepSums(loss_sum=loss_sum, num_tokens=total, num_correct=num_correct, grad_norm=grad_norm)

    def _not_finite(self, what: str, step: int, indices: Sequence[int]) -> JobFailure:
        lines = sorted(self._train.examples[index].source.line for index in indices)
        named = ", ".join(map(str, lines[:_NAMED_LINES])) + (f" and {len(lines) - _NAMED_LINES} more" if len(lines) > _NAMED_LINES else "")
        return JobFailure(
            f"The {what} stopped being a finite number at step {step} of {self._spec.total_steps}, on training line(s) {named}. "
            "Look at these lines, or use a smaller learning_rate_multiplier.",
            code="nan_loss",
        )

    def _check(self, step: int) -> Measured | None:
        """A small validation batch, when one is due; the batches walk through the whole set in turn."""
        rows = check_rows(step, self._spec, len(self._valid.examples)) if self._valid is not None else None
        return measure(self._model, self._valid, rows) if self._valid is not None and rows is not None else None

    def _finish_epoch(self, progress: Progress) -> Progress:
        began = time.perf_counter()
        metrics = dict(progress.metrics)
        full = measure(self._model, self._valid) if self._valid is not None else None
        if full is not None:
            metrics |= {"full_valid_loss": full.loss, "full_valid_mean_token_accuracy": full.accuracy}
        sample = measure(self._model, self._train, [0])
        self._hooks.epoch_done(
            EpochDone(
                epoch=progress.epoch,
                n_epochs=self._spec.n_epochs,
                step=progress.step,
                train_loss=progress.epoch_loss_sum / progress.epoch_tokens,
                train_accuracy=progress.epoch_correct / progress.epoch_tokens,
                valid_loss=full.loss if full else None,
                valid_accuracy=full.accuracy if full else None,
                sample_loss=sample.loss,
                seconds=progress.epoch_seconds + time.perf_counter() - began,
            )
        )
        self._hooks.save_checkpoint(progress.epoch, progress.step, dict(metrics))
        return replace(
            progress,
            epoch=progress.epoch + 1,
            batch_index=0,
            epoch_loss_sum=0.0,
            epoch_tokens=0,
            epoch_correct=0,
            epoch_seconds=0.0,
            metrics=metrics,
        )

    def _resume_is_due(self, step: int) -> bool:
        saved_step, saved_time = self._saved_at
        due = step - saved_step >= self._resume_steps or time.monotonic() - saved_time >= self._resume_seconds
        return due and not self._store.busy

    def _save_resume(self, progress: Progress, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        tensors = {**export_state(parameters, optimizer), **_random_state(self._model.device)}
        self._store.save(ResumeState(progress, tensors))
        self._saved_at = (progress.step, time.monotonic())

    def _report_saves(self) -> None:
        for report in self._store.finished():
            self._hooks.resume_saved(report)


def attach(model: LanguageModel, spec: TrainingSpec, parent_adapter: Path | None) -> list[nn.Parameter]:
    """The parameters that learn, ready for it: all weights, or those of a new adapter (or of ``parent_adapter``, to go on from)."""
    if spec.method is TuningMethod.FULL:
        parameters = model.all_parameters()
    else:
        if parent_adapter is not None:
            model.load_adapter(ADAPTER_NAME, parent_adapter)
        else:
            form = AdapterForm(rslora=spec.lora_kind is LoraKind.RSLORA, targets=spec.targets)
            model.add_adapter(ADAPTER_NAME, rank=spec.lora_rank, alpha=spec.lora_alpha, seed=spec.seed, form=form)
        parameters = model.adapter_parameters(ADAPTER_NAME)
    for parameter in parameters:
        parameter.requires_grad_(True)
    return parameters


def resume_interval(total_steps: int, share: float) -> int:
    """Steps between two resume states that come by number of steps."""
    return max(1, int(total_steps * share))


def _random_state(device: torch.device) -> dict[str, Tensor]:
    states = {"random.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["random.device"] = torch.cuda.get_rng_state(device)
    return states
