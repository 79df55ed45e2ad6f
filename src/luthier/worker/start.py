"""Where a job's tuning starts: the open base, or the tuned model that it continues; and what its request asked for.

What it does: reads records and folders, decides the run's numbers from them. What it does not: load weights. Called by
``worker/pipelines.py`` and ``worker/forecast_job.py``.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from luthier.chat.renderer import Renderer
from luthier.core.errors import InvalidRequest, JobFailure
from luthier.core.jobs import Job, ModelKind, ModelRecord
from luthier.core.quantization import NOT_FULL, NOT_INSTALLED, is_installed
from luthier.core.settings import Settings
from luthier.core.specs import (
    Decision,
    Hyperparameters,
    LoraKind,
    LuthierOptions,
    ObjectiveKind,
    TrainingSpec,
    TuningMethod,
    options_from,
)
from luthier.models.decoder_config import parse
from luthier.models.device import Placement, placement_of, training_placement
from luthier.models.facts import ModelFacts, read_config, read_facts, read_max_length
from luthier.models.targets import chosen_targets, linear_layers
from luthier.training.base_rule import BaseFound
from luthier.training.resolve import RunFacts, auto_threads, resolve
from luthier.worker.context import RunContext


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentAdapter:
    """An adapter whose tuning goes on."""

    folder: Path
    rank: int
    alpha: float
    kind: LoraKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The weights that tuning starts from."""

    folder: Path
    """The base's folder, or that of complete tuned weights."""
    adapter: ParentAdapter | None
    facts: ModelFacts
    renderer: Renderer
    revision: str
    """Hash over everything that the start consists of."""


def find_start(ctx: RunContext) -> Start:
    """Look up the job's start.

    Raises:
        JobFailure: the base or the parent model was deleted meanwhile, or a parent adapter cannot be continued this way.
    """
    parent = _record(ctx, ctx.job.parent_model) if ctx.job.parent_model else None
    return start_of(ctx.settings, _record(ctx, ctx.job.base), parent, options_of(ctx.job))


def start_of(settings: Settings, base: ModelRecord, parent: ModelRecord | None, options: LuthierOptions) -> Start:
    """The start for these records.

    Raises:
        JobFailure: a parent adapter cannot be continued this way.
        InvalidRequest: the base's folder cannot be used.
    """
    folder, adapter = settings.resolve_model_path(base.path), None
    if parent is not None and parent.kind is ModelKind.FULL:
        folder = settings.resolve_model_path(parent.path)
    elif parent is not None:
        if options.adapter is TuningMethod.FULL:
            message = f"{parent.name} is an adapter: its tuning can go on as an adapter, not as full fine-tuning."
            raise JobFailure(message, code="unsupported_value", param="luthier.adapter")
        adapter = _read_adapter(settings.resolve_model_path(parent.path))
    facts = read_facts(folder)
    revision = facts.revision
    if parent is not None:
        revision = hashlib.sha256(f"{facts.revision} {parent.sha256}".encode()).hexdigest()
    return Start(folder=folder, adapter=adapter, facts=facts, renderer=Renderer.load(folder), revision=revision)


def find_reader(ctx: RunContext) -> tuple[Renderer, int]:
    """The renderer of the job's start and the longest text that its model reads, without its weights: what validation needs.

    Raises:
        JobFailure: the base or the parent model was deleted meanwhile.
    """
    folder, _ = _weights(ctx)
    return Renderer.load(folder), read_max_length(folder)


def _weights(ctx: RunContext) -> tuple[Path, ModelRecord | None]:
    """The folder of the complete weights that tuning starts from, and the tuned model that it continues."""
    base = _record(ctx, ctx.job.base)
    parent = _record(ctx, ctx.job.parent_model) if ctx.job.parent_model else None
    full = parent if parent is not None and parent.kind is ModelKind.FULL else base
    return ctx.settings.resolve_model_path(full.path), parent


def decide(
    settings: Settings,
    start: Start,
    hyperparameters: Hyperparameters,
    options: LuthierOptions,
    *,
    base: str,
    seed: int,
    num_examples: int,
    fingerprints: tuple[str, str | None],
    max_length: Decision,
    objective: ObjectiveKind = ObjectiveKind.SUPERVISED,
    found: BaseFound | None = None,
) -> tuple[TrainingSpec, tuple[Decision, ...]]:
    """Every "auto" becomes a number, by the job's facts and this machine's.

    Args:
        settings: of the server.
        start: where tuning starts.
        hyperparameters, options: as asked.
        base: name of the open base.
        seed: the job's.
        num_examples: examples, or pairs, that will be trained on.
        fingerprints: of the training and the validation file.
        max_length: as it was decided before preprocessing.
        objective: what is learned from.
        found: what the start makes of the answers, once that is measured.

    Raises:
        JobFailure: no device as asked for, packing that the base's path does not know, the base has no layer of a name in ``targets``, or
            4 bits with full tuning or without the library for them.
    """
    _check_quantization(options)
    placement = _placement(settings, options.adapter, objective)
    threads = auto_threads(settings.train_threads, os.cpu_count() or 1, start.facts.num_parameters)
    facts = RunFacts(
        num_examples=num_examples,
        num_parameters=start.facts.num_parameters,
        base=base,
        base_revision=start.revision,
        dataset_fingerprint=fingerprints[0],
        validation_fingerprint=fingerprints[1],
        seed=seed,
        num_threads=int(threads.value),
        device=placement.device,
        more_devices=placement.more_devices,
        precision=placement.precision,
        parent_rank=start.adapter.rank if start.adapter else None,
        parent_alpha=start.adapter.alpha if start.adapter else None,
        parent_kind=start.adapter.kind if start.adapter else LoraKind.LORA,
        targets=_targets(start, options),
        end_to_end=_end_to_end(start, options),
        objective=objective,
        found=found,
    )
    spec, decisions = resolve(hyperparameters, options, facts, max_length=int(max_length.value))
    return spec, (max_length, *decisions, threads, *_decisions_of(placement))


def _check_quantization(options: LuthierOptions) -> None:
    if options.quantization is not None and options.adapter is TuningMethod.FULL:
        message = f"'luthier.quantization' {NOT_FULL}"
        raise JobFailure(message, code="invalid_parameter_combination", param="luthier.quantization")
    if options.quantization is not None and not is_installed():
        raise JobFailure(NOT_INSTALLED, code="unsupported_value", param="luthier.quantization")


def _targets(start: Start, options: LuthierOptions) -> tuple[str, ...]:
    if options.targets is None:
        return ()
    try:
        return chosen_targets(options.targets, linear_layers(start.folder))
    except InvalidRequest as refusal:
        raise JobFailure(refusal.message, code="invalid_value", param="luthier.targets") from refusal


def _end_to_end(start: Start, options: LuthierOptions) -> bool:
    """The base's path can read rows end to end.

    Raises:
        JobFailure: it cannot, and packing was asked for.
    """
    known = parse(read_config(start.folder)) is not None
    if options.packing == "on" and not known:
        family = start.facts.family
        reason = f"'luthier.packing': 'on' needs a base of the fast path; {family} reads rows side by side. Leave the option out."
        raise JobFailure(reason, code="invalid_value", param="luthier.packing")
    return known


def _placement(settings: Settings, method: TuningMethod, objective: ObjectiveKind) -> Placement:
    try:
        return training_placement(settings.device, settings.precision, method, pairs=objective is ObjectiveKind.DPO)
    except InvalidRequest as refusal:
        raise JobFailure(refusal.message, code="device_unavailable") from refusal


def placed(spec: TrainingSpec) -> Placement:
    """Where a run that was decided, perhaps by an earlier attempt, trains.

    Raises:
        JobFailure: one of its devices is not here.
    """
    try:
        return placement_of(spec)
    except InvalidRequest as refusal:
        raise JobFailure(f"The run began on another machine. {refusal.message}", code="device_unavailable") from refusal


def _decisions_of(placement: Placement) -> tuple[Decision, ...]:
    device = Decision(name="device", value=placement.device, reason=placement.device_reason)
    if placement.device == "cpu" and placement.precision == "float32":
        return (device,)
    return device, Decision(name="precision", value=placement.precision, reason=placement.precision_reason)


def _record(ctx: RunContext, name: str) -> ModelRecord:
    record = ctx.models.get(name)
    if record is None:
        raise JobFailure(f"The model {name} was deleted before the job could start.", code="model_not_found", param="model")
    return record


def _read_adapter(folder: Path) -> ParentAdapter:
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    kind = LoraKind.RSLORA if config.get("use_rslora") else LoraKind.LORA
    if config.get("use_dora"):
        kind = LoraKind.DORA
    return ParentAdapter(folder=folder, rank=int(config["r"]), alpha=float(config["lora_alpha"]), kind=kind)


def hyperparameters_of(job: Job) -> Hyperparameters:
    """OpenAI's as asked: "auto" becomes None."""
    asked = {name: value for name, value in job.hyperparameters.items() if value is not None and value != "auto"}
    return Hyperparameters(
        n_epochs=asked.get("n_epochs"),
        batch_size=asked.get("batch_size"),
        learning_rate_multiplier=asked.get("learning_rate_multiplier"),
        beta=asked.get("beta"),
    )


def objective_kind(job: Job) -> ObjectiveKind:
    """What the job's method learns from."""
    return ObjectiveKind(job.method)


def options_of(job: Job) -> LuthierOptions:
    """Our own options as asked."""
    return options_from(job.options)
