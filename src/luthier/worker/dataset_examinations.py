"""Dataset tasks that look at what a file would teach: doctor, preview, forecast.

What it does: finds the model as the task's project sees it, calls the workshop's own functions, and makes results of their reports.
What it does not: read paths or models that the API did not name. Called through ``dataset_kinds.py``. What needs torch is imported
when it is needed: the fork server has it, tests need not.
"""

from pathlib import Path
from typing import Any

from luthier.api.model_names import find_served, find_trainable
from luthier.core.specs import Hyperparameters, ObjectiveKind, options_from
from luthier.worker.dataset_context import DatasetContext, Outcome
from luthier.worker.examine_data import examine_data
from luthier.worker.row_packing import pack_file
from luthier.worker.row_preview import load_reader, preview_lines

_DRY_RUN_SECONDS = 10.0
_STAGES = 6
"""Of a dry run: rows, model, forwards, steps, saves, answers."""


def doctor(ctx: DatasetContext) -> Outcome:
    """What is sound by the rules and would still teach the wrong thing."""
    path = ctx.source()
    validation = None if ctx.input("validation_file_id") is None else ctx.source("validation_file_id")
    total = sum(one.bytes for one in ctx.task.inputs)
    model = find_served(ctx.models, ctx.settings, ctx.options.get("model") or ctx.settings.default_base)

    def tell(kind: str, value: object) -> None:
        if kind == "progress" and isinstance(value, int):
            ctx.progress.tell(value, total, "bytes")

    report = examine_data(
        path,
        validation=validation,
        method=ctx.options.get("method"),
        models=[model.record.name],
        losses=ctx.options["losses"],
        seed=ctx.options["seed"],
        settings=ctx.settings,
        tell=tell,
    )
    for finding in report.findings:
        ctx.findings.add(finding.to_dict())
    return Outcome(result={**report.to_dict(), "findings": list(ctx.findings.first)})


def preview(ctx: DatasetContext) -> Outcome:
    """The tokens of one row as training sees them, and where they lie after packing where that is asked."""
    there = ctx.input()
    assert there is not None
    model = find_served(ctx.models, ctx.settings, ctx.options.get("model") or ctx.settings.default_base)
    reader = load_reader(Path(model.target.base_path), asked_length=ctx.options.get("max_length"))
    path, method, longest = ctx.source(), ctx.options.get("method"), ctx.settings.max_line_bytes
    packed = None
    # Tasks of a version that knew no packing say nothing of it.
    if ctx.options.get("packing"):
        total = ctx.bytes_of(path)
        tell = ctx.progress.tell
        packed = pack_file(path, reader, method=method, max_line_bytes=longest, on_progress=lambda done: tell(done, total, "bytes"))
    (row,) = preview_lines(path, [ctx.options["line"]], reader, method=method, max_line_bytes=longest, file_id=there.file_id, packed=packed)
    return Outcome(result={**row, "model": model.name, "max_length_reason": reader.max_length.reason})


def forecast(ctx: DatasetContext) -> Outcome:
    """What a job over these files would take, from a short dry run on this machine."""
    from luthier.worker.forecast_child import measure
    from luthier.worker.forecast_order import ForecastOrder

    trained = find_trainable(ctx.models, ctx.settings, ctx.options["model"])
    base = ctx.models.get(trained.base)
    assert base is not None
    # Requests of a version that forecast supervised jobs alone name no method.
    method: dict[str, Any] = ctx.options.get("method") or {"type": ObjectiveKind.SUPERVISED.value}
    numbers = (method.get(method["type"]) or {}).get("hyperparameters") or ctx.options.get("hyperparameters") or {}
    total = _STAGES if ctx.options["dry_run"] else 1
    begun: list[str] = []

    def progress(what: str) -> None:
        ctx.progress.tell(len(begun), total, "stages")
        begun.append(what)

    order = ForecastOrder(
        settings=ctx.settings,
        asked_model=ctx.options["model"],
        base=base,
        parent=None if trained.parent_model is None else ctx.models.get(trained.parent_model),
        training=ctx.source("training_file"),
        validation=None if ctx.input("validation_file") is None else ctx.source("validation_file"),
        hyperparameters=Hyperparameters(**numbers),
        objective=ObjectiveKind(method["type"]),
        options=options_from(ctx.options.get("luthier") or {}),
        seed=ctx.options["seed"],
        seconds=_DRY_RUN_SECONDS if ctx.options["dry_run"] else 0.0,
    )
    return Outcome(result=measure(order, progress))
