"""The order of the five stages: the file to read to understand the product.

What it does: walks one job through data collection, preprocessing, training, evaluation and deployment, and writes each
result where the office finds it. What it does not: decide how a stage works, or which job runs (``lanes.py``). Each lane's
function may raise ``JobFailure`` (the job fails with its wording) and ``StaleLease`` (the job is another's, or cancelled).
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from luthier.core.errors import StaleLease, Unavailable
from luthier.core.examples import Dataset, RowFormat
from luthier.core.generation import ModelTarget
from luthier.core.jobs import JobStatus, NewEvent
from luthier.core.specs import Decision, ObjectiveKind, TrainingSpec, TuningMethod
from luthier.core.stage import Stage
from luthier.core.targets import model_target
from luthier.data.stage import DataFailure, collect
from luthier.data.validate import Method
from luthier.evaluation.preference import PreferenceSetting
from luthier.evaluation.stage import evaluate, held_out_questions
from luthier.models.device import compiling_pays
from luthier.models.language_model import LanguageModel
from luthier.preprocessing.learnable import FileRole, check_learnable
from luthier.preprocessing.pack import pack
from luthier.preprocessing.stage import Prepared
from luthier.trace.events import (
    Evaluated,
    Notice,
    RunStarted,
    SpecResolved,
    StageStarted,
)
from luthier.training.base_rule import BaseFound
from luthier.training.loop import Trainer, TrainResult
from luthier.training.resolve import resolve_max_length
from luthier.training.resume import RESUME_PAUSE, newest_step
from luthier.worker import narration
from luthier.worker.base_probing import base_counts, settle_by_base
from luthier.worker.checkpoints import Checkpoints
from luthier.worker.context import RunContext
from luthier.worker.deploying import deploy_stage
from luthier.worker.fixed_prompts import FixedPrompts
from luthier.worker.forecasting import JobForecaster
from luthier.worker.less_memory import with_less_memory
from luthier.worker.machine import available_memory
from luthier.worker.placing import load_placed, load_replicas, measured_rate
from luthier.worker.range_testing import Decided, is_due, settle_rate
from luthier.worker.results import finish, store_result
from luthier.worker.spec_file import read_spec, write_spec
from luthier.worker.start import Start, decide, find_reader, find_start, hyperparameters_of, objective_kind, options_of
from luthier.worker.token_cache import tokens_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Stage 1's results."""

    training: Dataset
    validation: Dataset | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Stage 2's results."""

    training: Prepared
    validation: Prepared | None


def validate(ctx: RunContext) -> None:
    """Lane 1: read and check the job's files, also against the base's chat template and length; then it is queued."""
    ctx.tracer.emit(Stage.COLLECTION, StageStarted(shape_in="the uploaded files"))
    started = time.perf_counter()
    try:
        data = collect_files(ctx)
    except DataFailure as failure:
        for fault in failure.faults:
            ctx.tracer.emit(Stage.COLLECTION, Notice(level="error", message=f"line {fault.source.line}: {fault.message}"))
        raise
    check_rows(ctx, data)
    ctx.tracer.emit(Stage.COLLECTION, narration.collection(data.training, data.validation, time.perf_counter() - started))
    queued = NewEvent(created_at=int(ctx.now()), level="info", message="Files validated, moving job to queued state")
    ctx.recorder.write({"status": JobStatus.QUEUED}, events=[queued])


def fine_tune(ctx: RunContext) -> None:
    """Lane 2: the other four stages. Returns early, with a resume state on disk, when the server stops or the job is paused; what a
    paused job has learned stays callable as a checkpoint."""
    # The folder, not ``job.progress_step``: the state of a paused run was saved after its lease was over.
    began = ctx.now()
    resumed_from = newest_step(ctx.run_dir / "resume")
    started = RunStarted(model=ctx.job.model, base=ctx.job.base, attempt=ctx.attempt, resumed_from_step=resumed_from)
    with ctx.recorder.exclusively():
        ctx.tracer.emit(Stage.TRAINING, started)
        # An earlier attempt's estimate says nothing of this one: the first step makes a new one.
        moved = {"status": JobStatus.RUNNING} if ctx.job.status is JobStatus.QUEUED else {}
        ctx.recorder.write({**moved, "estimated_finish": None})
    data = collect_files(ctx)
    start = find_start(ctx)
    max_length = resolve_max_length(options_of(ctx.job).max_length, start.facts.max_length)
    tokens = preprocess(ctx, data, start, int(max_length.value))
    # Looked at before the model is there, which would be counted twice.
    again = partial(resolve_spec, ctx, data, start, tokens, max_length, (ctx.floor.process_bytes, available_memory(ctx.settings)))
    spec, decisions = again()
    if read_spec(ctx.run_dir) is not None:
        ctx.recorder.note({"hyperparameters": decided_hyperparameters(spec)})
    forecast_of = spec if is_due(ctx, spec) else replace(spec, range_steps=0)
    forecaster = JobForecaster(ctx, start, forecast_of, tokens.training, tokens.validation, began)
    forecaster.check_memory()
    if not resumed_from:
        forecaster.announce()
    row_format = serving_format(data.training.row_format).value
    trained = train(ctx, start, (spec, decisions), tokens, row_format, forecaster, again)
    if trained is None:
        return
    result, checkpoints, spec = trained
    if result.stopped:
        checkpoints.save_paused(result.epoch, result.steps, result.metrics)
        return
    base, tuned = base_target(ctx, row_format), checkpoints.final_target(start.folder)
    try:
        with checkpoints.answering_last():
            evaluate_stage(ctx, data, base=base, tuned=tuned, spec=spec)
            published = deploy_stage(ctx, data.training, data.validation, base=base, tuned=tuned, num_bytes=checkpoints.final_bytes)
            result_file = store_result(ctx)
        if result.steps == spec.total_steps:
            forecaster.finish(tokens=result.tokens_seen)
        finish(ctx, checkpoints, published, result_file, trained_tokens=result.tokens_seen, metrics=result.metrics)
    except (StaleLease, Unavailable):
        checkpoints.save_paused(result.epoch - 1, result.steps, result.metrics)
        raise


LANES: Mapping[str, Callable[[RunContext], None]] = {"validate": validate, "train": fine_tune}


def collect_files(ctx: RunContext) -> Data:
    """Stage 1: the job's snapshots of its files become data sets."""
    job, limit = ctx.job, ctx.settings.max_line_bytes
    method: Method = "supervised" if objective_kind(job) is ObjectiveKind.SUPERVISED else "dpo"

    def read(file_id: str, sha256: str, role: FileRole) -> Dataset:
        return collect(file_id, ctx.blobs.path(sha256), role=role, max_line_bytes=limit, sha256=sha256, method=method)

    training, validation = read(job.training_file, job.training_sha256, "training"), None
    if job.validation_file is not None and job.validation_sha256 is not None:
        validation = read(job.validation_file, job.validation_sha256, "validation")
    return Data(training=training, validation=validation)


def serving_format(row_format: RowFormat) -> RowFormat:
    """How prompts of a model that was trained on such rows are rendered: preference rows hold talks."""
    return RowFormat.CHAT if row_format is RowFormat.PREFERENCE else row_format


def decided_hyperparameters(spec: TrainingSpec) -> dict[str, Any]:
    """The numbers that the job shows once they are decided."""
    numbers = {"n_epochs": spec.n_epochs, "batch_size": spec.batch_size, "learning_rate_multiplier": spec.learning_rate_multiplier}
    return numbers if spec.objective is ObjectiveKind.SUPERVISED else {**numbers, "beta": spec.beta}


def check_rows(ctx: RunContext, data: Data) -> None:
    """Every row can be written in the base's chat format and has something to learn within the length limit.

    Raises:
        JobFailure: some cannot; all are named at once, before the job waits for its turn.
    """
    renderer, longest = find_reader(ctx)
    options = options_of(ctx.job)
    max_length = int(resolve_max_length(options.max_length, longest).value)
    files: tuple[tuple[Dataset | None, FileRole], ...] = ((data.training, "training"), (data.validation, "validation"))
    for dataset, role in files:
        if dataset is not None:
            check_learnable(dataset, renderer, max_length=max_length, role=role, skip_untrained=options.skip_untrained)


def preprocess(ctx: RunContext, data: Data, start: Start, max_length: int) -> Tokens:
    """Stage 2: examples become tokens."""
    ctx.tracer.emit(Stage.PREPROCESSING, StageStarted(shape_in=f"{len(data.training.examples):,} examples"))
    began = time.perf_counter()
    made = tokens_of(ctx, data.training, start, max_length=max_length, role="training")
    training, validation = made.prepared, None
    if data.validation is not None:
        validation = tokens_of(ctx, data.validation, start, max_length=max_length, role="validation").prepared
    packing = pack(training.lengths, max_length)
    seconds = time.perf_counter() - began
    report = narration.preprocessing(data.training, training, validation, start.renderer, packing, reused=made.reused, seconds=seconds)
    ctx.tracer.emit(Stage.PREPROCESSING, report)
    return Tokens(training=training, validation=validation)


def resolve_spec(
    ctx: RunContext, data: Data, start: Start, tokens: Tokens, max_length: Decision, room: tuple[int, int], found: BaseFound | None = None
) -> Decided:
    """Every "auto" becomes a number, once: a later attempt reads what the first one wrote. Where numbers still wait for a look at the base
    (``found``), or for a test of the rate, that writes them (``base_probing.py``, ``range_testing.py``). ``room``: bytes that the process
    holds without the model, and that it may hold."""
    known = read_spec(ctx.run_dir)
    if known is not None:
        return known
    spec, decisions = decide(
        ctx.settings,
        start,
        hyperparameters_of(ctx.job),
        options_of(ctx.job),
        base=ctx.job.base,
        seed=ctx.job.seed,
        num_examples=tokens.training.num_examples,
        fingerprints=(data.training.fingerprint, data.validation.fingerprint if data.validation else None),
        max_length=max_length,
        objective=objective_kind(ctx.job),
        found=found,
    )
    spec, decisions = with_less_memory((spec, decisions), options_of(ctx.job), start, tokens.training, *room)
    if not spec.range_steps and not base_counts(ctx):
        write_spec(ctx.run_dir, spec, decisions)
    return spec, decisions


def train(
    ctx: RunContext,
    start: Start,
    decided: Decided,
    tokens: Tokens,
    row_format: str,
    forecaster: JobForecaster,
    again: Callable[[BaseFound], Decided],
) -> tuple[TrainResult, Checkpoints, TrainingSpec] | None:
    """Stage 3: tokens become checkpoints, by the numbers that are returned beside them; ``again`` decides these once more, knowing the
    base. None when it was stopped while the rate was still being found."""
    spec, _ = decided
    ctx.tracer.emit(Stage.TRAINING, StageStarted(shape_in=shape_of_rows(tokens, spec, settled=not base_counts(ctx))))
    began = time.perf_counter()
    model = load_placed(ctx, start, spec, own=spec.method is TuningMethod.FULL)
    settled = settle(ctx, model, start, decided, tokens.training, forecaster, again)
    if settled is None:
        return None
    spec, _ = settled

    def announce() -> None:
        ctx.tracer.emit(Stage.TRAINING, all_decided(settled, checkpoints.trainable_parameters(), model.facts.num_parameters))

    checkpoints = Checkpoints(
        ctx,
        spec,
        model,
        row_format=row_format,
        chat_template=start.renderer.template_source,
        announce=announce,
        forecaster=forecaster,
        prompts=FixedPrompts(model, start.renderer, tokens.training, tokens.validation),
    )
    trainer = Trainer(
        model,
        spec,
        tokens.training,
        tokens.validation,
        checkpoints,
        ctx.run_dir / "resume",
        resume_seconds=ctx.settings.resume_seconds,
        resume_share=ctx.settings.resume_share,
        resume_pause=RESUME_PAUSE,
        parent_adapter=start.adapter.folder if start.adapter else None,
        adapter=checkpoints.adapter,
        compiled=compiling_pays(spec.device, spec.total_steps, num_devices=1 + len(spec.more_devices)),
        matrix_rate=ctx.floor.call(lambda: measured_rate(model, spec)),
        run_dir=ctx.run_dir,
        replicas=load_replicas(ctx, start, spec),
    )
    forecaster.training_starts()
    result = ctx.floor.train(trainer, None if spec.method is TuningMethod.FULL else checkpoints.adapter)
    if not result.stopped:
        checkpoints.adopt_final()
        ctx.tracer.emit(Stage.TRAINING, checkpoints.stage_report(shape_of_rows(tokens, spec), time.perf_counter() - began))
    return result, checkpoints, spec


def settle(
    ctx: RunContext,
    model: LanguageModel,
    start: Start,
    decided: Decided,
    training: Prepared,
    forecaster: JobForecaster,
    again: Callable[[BaseFound], Decided],
) -> Decided | None:
    """What waited for the model: numbers that rest on the base's loss, and a rate that is tested. None when stopped meanwhile."""
    known = settle_by_base(ctx, model, start, decided, training, again)
    forecaster.decided(known[0])
    settled = settle_rate(ctx, model, start, known, training, forecaster)
    if settled is not None and settled is not decided:
        ctx.recorder.note({"hyperparameters": decided_hyperparameters(settled[0])})
    return settled


def all_decided(decided: Decided, trainable: int, total: int) -> SpecResolved:
    """What is told once every number is known; ``trainable`` of ``total`` parameters learn."""
    spec, decisions = decided
    reasons = tuple(asdict(decision) for decision in decisions)
    return SpecResolved(spec=spec.to_dict(), decisions=reasons, trainable_parameters=trainable, total_parameters=total)


def shape_of_rows(tokens: Tokens, spec: TrainingSpec, *, settled: bool = True) -> str:
    """What goes into training, in words; ``settled``: the epochs are decided."""
    things = "tokenized examples" if spec.objective is ObjectiveKind.SUPERVISED else "pairs of tokenized answers"
    times = f" x {spec.n_epochs} epochs" if settled else ""
    return f"{tokens.training.num_examples:,} {things}{times}"


def base_target(ctx: RunContext, row_format: str) -> ModelTarget:
    """The untouched base, asked in the form that the tuned model is trained on."""
    record = ctx.models.get(ctx.job.base)
    assert record is not None
    return replace(model_target(record, record, ctx.settings), row_format=row_format)


def reference_target(ctx: RunContext, base: ModelTarget) -> ModelTarget:
    """The model that tuning started from: the base, or the tuned model that was continued."""
    parent = ctx.models.get(ctx.job.parent_model) if ctx.job.parent_model else None
    record = ctx.models.get(ctx.job.base)
    if parent is None or record is None:
        return base
    return replace(model_target(parent, record, ctx.settings), row_format=base.row_format)


def evaluate_stage(ctx: RunContext, data: Data, *, base: ModelTarget, tuned: ModelTarget, spec: TrainingSpec) -> None:
    """Stage 4: base beside tuned on the validation file."""
    if data.validation is None:
        sentence = "No validation file was given, so nothing was measured on held-out examples."
        ctx.tracer.emit(Stage.EVALUATION, Notice(level="info", message=sentence))
        return
    questions = held_out_questions(data.validation, spec.seed)
    ctx.tracer.emit(Stage.EVALUATION, StageStarted(shape_in=f"{len(questions):,} validation examples"))
    began = time.perf_counter()
    reference = reference_target(ctx, base) if spec.objective.has_reference else None
    setting = None if spec.objective is ObjectiveKind.SUPERVISED else PreferenceSetting(reference=reference, beta=spec.beta)
    report = evaluate(ctx.engine, base=base, tuned=tuned, questions=questions, max_length=spec.max_length, setting=setting)
    ctx.tracer.emit(Stage.EVALUATION, Evaluated(report=report))
    (ctx.run_dir / "evaluation.json").write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")
    ctx.tracer.emit(Stage.EVALUATION, narration.evaluation(report, time.perf_counter() - began))
