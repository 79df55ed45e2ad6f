"""The trainer's hooks of a real job: every report becomes a trace event, every epoch's end a callable checkpoint.

What it does: publishes the folder, registers the intermediate checkpoint's name in one transaction with its record, keeps
the final one for ``results.py``; does the same where a pause stops the training, so that what was learned can be tried. What it
does not: train, or announce the final model. Called by ``worker/pipelines.py``.
"""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from luthier.core.errors import StaleLease
from luthier.core.generation import ModelTarget
from luthier.core.ids import new_checkpoint_id, new_model_suffix_id
from luthier.core.jobs import CheckpointRecord, ModelKind, ModelRecord
from luthier.core.model_names import base_of, tuned_model_name
from luthier.core.specs import Keep, LoraKind, ObjectiveKind, OptimizerName, TrainingSpec, TuningMethod
from luthier.core.stage import Stage
from luthier.deployment.publish import ModelCard, PublishedFolder, publish
from luthier.jobs.lifecycle import is_paused_from, pause_checkpoint
from luthier.models.language_model import LanguageModel
from luthier.trace.events import (
    BaseMeasured,
    CheckpointSaved,
    EpochDone,
    LossSpiked,
    ModelChosen,
    Notice,
    PromptsAnswered,
    ReferenceScored,
    ResumeSaved,
    StageFinished,
    StepDone,
    StepSkipped,
)
from luthier.trace.projections import checkpoint_event
from luthier.trace.reader import each_event, read_events
from luthier.training.answers import Questions
from luthier.worker import narration
from luthier.worker.context import RunContext
from luthier.worker.fixed_prompts import FixedPrompts
from luthier.worker.forecasting import JobForecaster
from luthier.worker.repeated_steps import RepeatedSteps

KIND_NAMES = {LoraKind.LORA: "LoRA", LoraKind.RSLORA: "rank-stabilised LoRA", LoraKind.DORA: "DoRA"}
OPTIMIZER_NAMES = {
    OptimizerName.ADAMW: "AdamW",
    OptimizerName.SGD: "SGD with momentum",
    OptimizerName.LION: "Lion",
    OptimizerName.ADAFACTOR: "Adafactor",
}


class Checkpoints:
    """Implements ``training.hooks.TrainerHooks`` for one attempt."""

    def __init__(
        self,
        ctx: RunContext,
        spec: TrainingSpec,
        model: LanguageModel,
        *,
        row_format: str,
        chat_template: str | None,
        announce: Callable[[], None],
        forecaster: JobForecaster,
        prompts: FixedPrompts | None = None,
    ) -> None:
        self._ctx, self._spec, self._model = ctx, spec, model
        # Not one name for all: other jobs may have theirs on the same model.
        self.adapter = ctx.job.id
        self._row_format, self._chat_template = row_format, chat_template
        self._announce: Callable[[], None] | None = announce
        self._forecaster, self._prompts = forecaster, prompts
        self._known = _known_steps(ctx)
        log = each_event(ctx.run_dir / "trace.jsonl") if ctx.attempt > 1 else ()
        self._repeated = RepeatedSteps(log, exact=spec.device == "cpu")
        self._paused = self._has_last_to_ask = False
        self._final: tuple[PublishedFolder, dict[str, float]] | None = None
        self._chosen: ModelChosen | None = None
        self.final_name = tuned_model_name(base_of(ctx.job.model), ctx.settings.organization, ctx.job.suffix, new_model_suffix_id())

    def base_measured(self, report: BaseMeasured) -> Questions | None:
        """See ``TrainerHooks``."""
        self._announce_once()
        self._ctx.tracer.emit(Stage.TRAINING, report)
        self._forecaster.base_measured(report)
        return self._questions(0)

    def reference_scored(self, report: ReferenceScored) -> None:
        """See ``TrainerHooks``."""
        self._announce_once()
        self._ctx.tracer.emit(Stage.TRAINING, report)

    def step_done(self, report: StepDone) -> None:
        """See ``TrainerHooks``."""
        self._announce_once()
        self._ctx.tracer.emit(Stage.TRAINING, report)
        self._forecaster.step_done(report)
        again = self._repeated.step_done(report)
        if again is not None:
            self._ctx.tracer.emit(Stage.TRAINING, again)

    def epoch_done(self, report: EpochDone) -> Questions | None:
        """See ``TrainerHooks``."""
        self._ctx.tracer.emit(Stage.TRAINING, report)
        if self._is_asked_last(report.epoch):
            self._has_last_to_ask = True
            return None
        return self._questions(report.epoch)

    def _is_asked_last(self, epoch: int) -> bool:
        """After this epoch's end nothing changes the weights any more, so that its answers need not come before anything else."""
        return epoch == self._spec.n_epochs and self._spec.keep is Keep.LAST and not self._spec.patience

    @contextmanager
    def answering_last(self) -> Iterator[None]:
        """Within the block the tuned model answers the fixed prompts of the last epoch, beside what the block does: the engine is another
        process. Where it has answered them already, in an earlier attempt too, it does not again.

        The block is left when they are told. Raises what the block or the answering raises.
        """
        if not self._has_last_to_ask and not self._is_owed_by_earlier_attempt():
            yield
            return
        with ThreadPoolExecutor(1, thread_name_prefix="fixed-prompts") as beside:
            told = beside.submit(self._ask_last)
            yield
            told.result()

    def _is_owed_by_earlier_attempt(self) -> bool:
        """It ended all epochs, and was gone before the last answers."""
        last = self._spec.n_epochs
        if not self._is_asked_last(last):
            return False
        log = each_event(self._ctx.run_dir / "trace.jsonl")
        return not any(isinstance(event.payload, PromptsAnswered) and event.payload.epoch == last for event in log)

    def _ask_last(self) -> None:
        answered = self._ctx.floor.call(self._answer_last)
        if answered is not None:
            self._ctx.tracer.emit(Stage.TRAINING, answered)

    def _answer_last(self) -> PromptsAnswered | None:
        if self._prompts is None:
            return None
        # The trainer's turns, which set both, are over.
        torch.set_num_threads(self._spec.num_threads)
        with self._model.use_adapter(self.adapter if self._spec.method is TuningMethod.LORA else None):
            return self._prompts.answer(self._spec.n_epochs)

    def _questions(self, epoch: int) -> Questions | None:
        if self._prompts is None:
            return None

        def tell(answered: PromptsAnswered) -> None:
            self._ctx.tracer.emit(Stage.TRAINING, answered)

        return self._prompts.questions(epoch, tell)

    def resume_saved(self, report: ResumeSaved) -> None:
        """See ``TrainerHooks``. The step becomes part of the job: a crash after it counts as one with progress."""
        self._ctx.tracer.emit(Stage.TRAINING, report)
        self._ctx.recorder.note({"progress_step": report.step})

    def happened(self, news: StepSkipped | LossSpiked | ModelChosen | Notice) -> None:
        """See ``TrainerHooks``. A choice that an earlier attempt has told already is not told again."""
        if isinstance(news, ModelChosen):
            self._chosen = news
            if any(event.payload == news for event in read_events(self._ctx.run_dir / "trace.jsonl")[0]):
                return
        self._ctx.tracer.emit(Stage.TRAINING, news)

    @property
    def _final_step(self) -> int:
        """The step whose weights become the model."""
        return self._spec.total_steps if self._chosen is None else self._chosen.step

    @property
    def _last_step(self) -> int:
        return self._spec.total_steps if self._chosen is None else self._chosen.last_step

    @property
    def _final_folder(self) -> Path:
        """Its own: an earlier epoch's checkpoint stays callable, and deletable, beside the model that it became."""
        if self._final_step == self._last_step:
            return self._folder(self._final_step)
        return self._ctx.settings.models_dir / f"{self._ctx.job.id}-best-{self._final_step}"

    def _announce_once(self) -> None:
        """The decided numbers, in every attempt, as soon as the trainer has made the adapter that they count."""
        if self._announce is not None:
            announce, self._announce = self._announce, None
            announce()

    def should_stop(self) -> bool:
        """See ``TrainerHooks``."""
        return self._paused or self._ctx.should_stop()

    def save_checkpoint(self, epoch: int, step: int, metrics: dict[str, float]) -> None:
        """Publish the weights; an intermediate checkpoint answers by name as soon as this returns."""
        final = step == self._final_step
        folder = self._final_folder if final else self._folder(step)
        published = publish(self._model, adapter=self.adapter, folder=folder, card=self._card(step))
        if final:
            self._final = (published, metrics)
            return
        if step in self._known:
            return
        name, saved = self._named(step, epoch, published)
        checkpoint, model = self._record(step, name, metrics), self._model_record(step, name, published)
        try:
            self._ctx.recorder.write(checkpoints=[checkpoint], models=[model])
        except StaleLease:
            # A pause that came with the epoch's end: refused as a trainer's write, taken as what the pause leaves behind.
            self._register_paused(checkpoint, model, saved)
            self._paused = True
        self._known.add(step)
        self._ctx.tracer.emit(Stage.TRAINING, saved)

    def save_paused(self, epoch: int, step: int, metrics: dict[str, float]) -> None:
        """The training has stopped. Was it for a pause, then what it has learned answers by name as soon as this returns.

        Does nothing before the first step, after a stop of another kind, and where the step's checkpoint answers already.

        Args:
            epoch: the one under way.
            step: steps done.
            metrics: the latest of each, in the keys of OpenAI's checkpoint object.

        Raises:
            StaleLease: the job was resumed or cancelled meanwhile; nothing of this is visible.
        """
        if step == 0 or step in self._known or not self._is_paused():
            return
        published = publish(self._model, adapter=self.adapter, folder=self._folder(step), card=self._card(step))
        name, saved = self._named(step, epoch, published)
        # The whole validation file was last measured at an earlier step than this one.
        own = {key: value for key, value in metrics.items() if step == self._last_step or not key.startswith("full_")}
        try:
            self._register_paused(self._record(step, name, own), self._model_record(step, name, published), saved)
        except StaleLease:
            if step != self._final_step:
                shutil.rmtree(self._folder(step))  # nobody will ask for it: the job goes on, or is over
            raise
        self._known.add(step)
        self._ctx.tracer.emit(Stage.TRAINING, saved)

    def _is_paused(self) -> bool:
        job = self._ctx.jobs.get(self._ctx.job.id)
        return job is not None and is_paused_from(job, self._ctx.job.fence)

    def _register_paused(self, checkpoint: CheckpointRecord, model: ModelRecord, saved: CheckpointSaved) -> None:
        own, event = self._ctx.job, checkpoint_event(checkpoint.created_at, saved)
        self._ctx.jobs.decide(own.id, lambda job: pause_checkpoint(job, own.fence, event=event, checkpoint=checkpoint, model=model))

    def _named(self, step: int, epoch: int, published: PublishedFolder) -> tuple[str, CheckpointSaved]:
        """A new name for an intermediate checkpoint, and the event that tells it."""
        job, organization = self._ctx.job, self._ctx.settings.organization
        name = tuned_model_name(base_of(job.model), organization, job.suffix, new_model_suffix_id(), step=step)
        return name, CheckpointSaved(step=step, epoch=epoch, model_name=name, bytes=published.bytes)

    def adopt_final(self) -> None:
        """After a resume from behind the last step nothing is saved again: take the folder that the earlier attempt left."""
        if self._final is None:
            step = self._final_step
            self._final = (publish(self._model, adapter=self.adapter, folder=self._final_folder, card=self._card(step)), {"step": step})

    @property
    def final_bytes(self) -> int:
        """Size of the final folder."""
        assert self._final is not None
        return self._final[0].bytes

    def final_target(self, base_folder: Path) -> ModelTarget:
        """The final model as the engine host loads it, before its name is registered."""
        assert self._final is not None
        folder = str(self._final_folder.resolve())
        is_adapter = self._spec.method is TuningMethod.LORA
        return ModelTarget(
            name=self.final_name,
            base_path=str(base_folder) if is_adapter else folder,
            adapter_path=folder if is_adapter else None,
            row_format=self._row_format,
            revision=self._final[0].sha256,
        )

    def final_records(self, metrics: dict[str, float]) -> tuple[CheckpointRecord, ModelRecord]:
        """What the last transaction registers: the final step is listed under the final name (reference, section 2.6)."""
        assert self._final is not None
        step, (published, own_metrics) = self._final_step, self._final
        record = self._record(step, self.final_name, {**metrics, **own_metrics})
        return record, self._model_record(None, self.final_name, published)

    def trainable_parameters(self) -> int:
        """How many numbers learn."""
        if self._spec.method is TuningMethod.LORA:
            return sum(p.numel() for p in self._model.adapter_parameters(self.adapter))
        return self._model.facts.num_parameters

    def stage_report(self, shape_in: str, seconds: float) -> StageFinished:
        """Stage 3's account of itself."""
        trainable, total = self.trainable_parameters(), self._model.facts.num_parameters
        kind = KIND_NAMES[self._spec.lora_kind]
        way = f"{kind} of rank {self._spec.lora_rank}" if self._spec.method is TuningMethod.LORA else "full fine-tuning"
        size, optimizer = self._spec.batch_size, OPTIMIZER_NAMES[self._spec.optimizer]
        thing = "example" if self._spec.objective is ObjectiveKind.SUPERVISED else "pair"
        rows = f"1 {thing}" if size == 1 else f"{size} {thing}s of like length"
        if self._spec.objective is not ObjectiveKind.SUPERVISED:
            way += f" by {self._spec.objective.value.upper()} with beta {self._spec.beta:g}"
        return StageFinished(
            shape_in=shape_in,
            did=f"{way}, {self._last_step:,} steps of {rows}, {optimizer}, peak rate {self._spec.learning_rate:.2g}",
            shape_out=f"{trainable:,} of {total:,} parameters trained, checkpoint of {self.final_bytes:,} bytes",
            seconds=seconds,
            # From the log, not from this attempt: a resumed run shows the epochs before the crash too.
            sample={"losses": narration.sample_losses(read_events(self._ctx.run_dir / "trace.jsonl")[0])},
        )

    def _folder(self, step: int) -> Path:
        return self._ctx.settings.models_dir / f"{self._ctx.job.id}-step-{step}"

    def _card(self, step: int) -> ModelCard:
        return ModelCard(
            job_id=self._ctx.job.id,
            step=step,
            base=self._ctx.job.base,
            base_revision=self._spec.base_revision,
            row_format=self._row_format,
            chat_template=self._chat_template,
            method=self._spec.method,
        )

    def _record(self, step: int, name: str, metrics: dict[str, float]) -> CheckpointRecord:
        return CheckpointRecord(
            id=new_checkpoint_id(),
            job_id=self._ctx.job.id,
            created_at=int(self._ctx.now()),
            model_name=name,
            step_number=step,
            metrics=metrics,
        )

    def _model_record(self, step: int | None, name: str, published: PublishedFolder) -> ModelRecord:
        lora = self._spec.method is TuningMethod.LORA
        folder = self._final_folder if step is None else self._folder(step)
        return ModelRecord(
            name=name,
            kind=ModelKind.ADAPTER if lora else ModelKind.FULL,
            base=self._ctx.job.base,
            path=str(folder.relative_to(self._ctx.settings.data_dir)),
            created_at=int(self._ctx.now()),
            owned_by=self._ctx.settings.organization,
            job_id=self._ctx.job.id,
            step=step,
            row_format=self._row_format,
            sha256=published.sha256,
        )


def _known_steps(ctx: RunContext) -> set[int]:
    """Steps whose checkpoint an earlier attempt has already registered."""
    known: set[int] = set()
    after: str | None = None
    while True:
        page: Any = ctx.jobs.checkpoints(ctx.job.id, limit=100, after=after)
        known.update(c.step_number for c in page.items)
        if not page.has_more or not page.items:
            return known
        after = page.items[-1].id
