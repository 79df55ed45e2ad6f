"""What each kind of dataset task does: the one table, kind to function.

What it does: takes a request's options and files to the library's functions and their reports to results. What it does not: run
processes or write the task's row (``data_lane.py``, ``dataset_work.py``). A function may raise any ``LuthierError``: the task fails
with its sentence, and nothing that it wrote is kept.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from luthier.core.data_report import finding_to_dict
from luthier.core.dataset_tasks import DatasetKind
from luthier.data.check import check_file
from luthier.data.export_rows import export_rows
from luthier.data.import_rows import import_rows
from luthier.data.redact import KINDS as REDACTED
from luthier.data.redact import redact
from luthier.data.repair import repair
from luthier.data.split import split
from luthier.worker.completion_rows import RowKeys, keys_of_all, write_completions
from luthier.worker.dataset_context import USER_DATA, DatasetContext, MadeFile, Outcome
from luthier.worker.dataset_examinations import doctor, forecast, preview

_MAX_NOTES, _MAX_NOTE = 200, 500
_ENDINGS = {"csv": ".csv", "alpaca": ".json", "sharegpt": ".json"}
_CAPTURED = "stored-completions"


def _note(ctx: DatasetContext) -> Callable[[str], None]:
    """Keeps what the library says, within bounds: column names are as long as their author likes."""

    def note(text: str) -> None:
        if len(ctx.notes) < _MAX_NOTES:
            ctx.notes.append(text if len(text) <= _MAX_NOTE else text[: _MAX_NOTE - 1] + "…")

    return note


def _bytes_read(ctx: DatasetContext, path: Path, times: int = 1) -> Callable[[int], None]:
    total = ctx.bytes_of(path, times)
    return lambda done: ctx.progress.tell(done, total, "bytes")


def _rows_made(ctx: DatasetContext) -> Callable[[int], None]:
    return lambda done: ctx.progress.tell(done, None, "rows")


def check(ctx: DatasetContext) -> Outcome:
    """Every fault and warning of a file."""
    path = ctx.source()
    report = check_file(
        path,
        role=ctx.options["role"],
        method=ctx.options.get("method"),
        max_line_bytes=ctx.settings.max_line_bytes,
        on_finding=lambda finding: ctx.findings.add(finding_to_dict(finding)),
        on_progress=_bytes_read(ctx, path),
    )
    return Outcome(result={**report.to_dict(), "findings": list(ctx.findings.first)})


def fix(ctx: DatasetContext) -> Outcome:
    """A repaired copy, and a diff where asked."""
    path, output = ctx.source(), ctx.folder / "fixed.jsonl"
    diff = ctx.folder / "fixed.diff" if ctx.options["diff"] else None
    done = repair(
        path,
        output,
        diff=diff,
        max_line_bytes=ctx.settings.max_line_bytes,
        completions=ctx.options["to_chat"],
        on_progress=_bytes_read(ctx, path),
    )
    name = ctx.options.get("filename") or f"{ctx.stem()}.fixed.jsonl"
    files = {"repaired": MadeFile(path=output, filename=name)}
    if diff is not None:
        files["diff"] = MadeFile(path=diff, filename=f"{ctx.stem()}.diff", purpose=USER_DATA)
    return Outcome(result=done.to_dict(), files=files)


def redact_rows(ctx: DatasetContext) -> Outcome:
    """A copy without secrets and personal data."""
    path, output = ctx.source(), ctx.folder / "redacted.jsonl"
    done = redact(
        path,
        output,
        kinds=ctx.options.get("kinds") or REDACTED,
        max_line_bytes=ctx.settings.max_line_bytes,
        on_progress=_bytes_read(ctx, path),
    )
    name = ctx.options.get("filename") or f"{ctx.stem()}.redacted.jsonl"
    return Outcome(result=done.to_dict(), files={"redacted": MadeFile(path=output, filename=name)})


def split_rows(ctx: DatasetContext) -> Outcome:
    """Training and validation rows, of a file or of stored completions."""
    group_by: list[str] = ctx.options.get("group_by") or []
    keys: RowKeys | None = None
    if ctx.options.get("stored_completions") is not None:
        path = ctx.folder / f"{_CAPTURED}.jsonl"
        _, keys = write_completions(ctx, path, group_by)
    else:
        path = ctx.source()
        keys = keys_of_all(ctx, group_by) if group_by else None
    note = _note(ctx)
    train, valid = ctx.folder / "train.jsonl", ctx.folder / "valid.jsonl"
    done = split(
        path,
        train,
        valid,
        share=ctx.options["valid"],
        seed=ctx.options["seed"],
        max_line_bytes=ctx.settings.max_line_bytes,
        key_of=keys.key_of if keys is not None and group_by else None,
        on_progress=_bytes_read(ctx, path, times=2),
    )
    if group_by and not done.num_keyed:
        note(f"No row is one of a stored completion with the metadata {', '.join(group_by)}, so nothing was kept together by it.")
    stem = ctx.stem(_CAPTURED)
    files = {
        "training": MadeFile(path=train, filename=f"{stem}.train.jsonl"),
        "validation": MadeFile(path=valid, filename=f"{stem}.valid.jsonl"),
    }
    return Outcome(result=done.to_dict(), files=files)


def import_file(ctx: DatasetContext) -> Outcome:
    """An ordinary training file of another format, of a hub's data set, or of stored completions."""
    output = ctx.folder / "imported.jsonl"
    if ctx.options.get("stored_completions") is not None:
        counts, _ = write_completions(ctx, output, ())
        result: dict[str, Any] = {"rows": counts.num_rows, "left_out": counts.num_left_out, "completions_read": counts.num_read}
        if counts.num_left_out:
            _note(ctx)(
                f"Left out: {counts.num_left_out:,} of {counts.num_rows + counts.num_left_out:,} answers, which are empty, were cut off, "
                "are too long for a line, or follow tool calls without results."
            )
        name = f"{_CAPTURED}.jsonl"
    else:
        source = ctx.options.get("source")
        done = import_rows(
            [str(ctx.source()) if source is None else source],
            output,
            said=ctx.options.get("map") or {},
            skip_bad=ctx.options["skip_bad"],
            max_line_bytes=ctx.settings.max_line_bytes,
            note=_note(ctx),
            max_bytes=ctx.settings.max_upload_bytes,
            on_progress=_rows_made(ctx),
        )
        result = {"rows": done.num_rows, "left_out": done.num_bad}
        name = f"{ctx.stem('imported')}.jsonl"
    return Outcome(result=result, files={"training": MadeFile(path=output, filename=ctx.options.get("filename") or name)})


def export(ctx: DatasetContext) -> Outcome:
    """The rows in another tool's format."""
    form: str = ctx.options["format"]
    path, output = ctx.source(), ctx.folder / f"exported{_ENDINGS[form]}"
    num_rows = export_rows(
        path,
        output,
        form=form,
        skip_bad=ctx.options["skip_bad"],
        max_line_bytes=ctx.settings.max_line_bytes,
        note=_note(ctx),
        on_progress=_bytes_read(ctx, path),
    )
    name = ctx.options.get("filename") or f"{ctx.stem()}{_ENDINGS[form]}"
    return Outcome(result={"rows": num_rows, "format": form}, files={"exported": MadeFile(path=output, filename=name, purpose=USER_DATA)})


KINDS: Mapping[DatasetKind, Callable[[DatasetContext], Outcome]] = {
    DatasetKind.CHECK: check,
    DatasetKind.DOCTOR: doctor,
    DatasetKind.FIX: fix,
    DatasetKind.REDACT: redact_rows,
    DatasetKind.SPLIT: split_rows,
    DatasetKind.IMPORT: import_file,
    DatasetKind.EXPORT: export,
    DatasetKind.PREVIEW: preview,
    DatasetKind.FORECAST: forecast,
}
"""The work of each kind."""
