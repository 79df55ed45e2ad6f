"""Examines a local training file: ``python -m luthier.worker.examine_data PATH``, started by the command line.

What it does: runs the doctor's checks, its detectors beside them in a second process, and on demand its checks by a model; writes
JSON lines to standard output: ``{"progress": bytes}`` (of the bytes of both files), ``{"stage": sentence}``, and one ``{"report": ...}``
at the end. What it does not: print for people, need a server, or load torch unless ``--losses`` is given.
"""

import argparse
import gc
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson

from luthier.chat.renderer import Renderer
from luthier.core.doctor_report import DoctorReport
from luthier.core.settings import Settings, from_environment
from luthier.data.doctor.examine import examine, with_findings
from luthier.data.doctor.truncation import Base
from luthier.data.validate import Method
from luthier.models.facts import max_length_of, read_config
from luthier.training.resolve import resolve_max_length
from luthier.worker.base_folder import FoundModel, find_model
from luthier.worker.detector_process import DetectorProcess
from luthier.worker.process_edge import told_errors

_LOSS_CODES = ("already_predicted", "bizarre")
_NO_LOSSES = "it takes a model up to half a minute; ask for it with --losses"
_WAIT_SECONDS = 0.2
_LARGE_BYTES = 4_000_000
Tell = Callable[[str, object], None]


def examine_data(
    path: Path,
    *,
    validation: Path | None,
    method: Method | None,
    models: Sequence[str],
    losses: bool,
    seed: int,
    settings: Settings,
    tell: Tell,
) -> DoctorReport:
    """Examine a file, and tell how far it is.

    Args:
        path: the training file.
        validation: the validation file.
        method: what the rows are for; None takes it from the first row.
        models: names or folders of base models; the first one measures losses.
        losses: whether to measure how well that one predicts a sample of the rows.
        seed: of the samples.
        settings: for the data directory and the longest line.
        tell: is given ``progress`` and ``stage``.

    Raises:
        LuthierError: a model is not there or cannot be used, or a process ended without a result.
        OSError: a file cannot be read.
    """
    found = [find_model(name, settings) for name in models]
    bases = [_base(model) for model in found]
    size = path.stat().st_size
    total = size + (0 if validation is None else validation.stat().st_size)
    # A process of its own takes a moment to start: it pays for large files only.
    process = DetectorProcess(path, method=method, max_line_bytes=settings.max_line_bytes) if size >= _LARGE_BYTES else None

    def progress(num_bytes: int) -> None:
        if process is None:
            tell("progress", num_bytes)
        else:
            process.poll()
            tell("progress", (num_bytes + process.done) * total // (total + size))

    report = examine(
        path,
        validation=validation,
        method=method,
        bases=bases,
        detectors=None if process is None else (),
        max_line_bytes=settings.max_line_bytes,
        seed=seed,
        on_progress=progress,
    )
    if process is not None:
        while not process.poll(_WAIT_SECONDS):
            progress(total)
        findings, checks, skipped = process.result()
        report = with_findings(report, findings, checks=checks, skipped=skipped, statistics={})
    return _with_losses(report, path, found[0] if losses else None, method=method, seed=seed, settings=settings, tell=tell)


def _base(model: FoundModel) -> Base:
    max_length = resolve_max_length(None, max_length_of(read_config(model.folder)))
    return Base(name=model.name, renderer=Renderer.load(model.folder), max_length=int(max_length.value))


def _with_losses(
    report: DoctorReport, path: Path, model: FoundModel | None, *, method: Method | None, seed: int, settings: Settings, tell: Tell
) -> DoctorReport:
    """The report with the checks by a model, or with the reason why they did not run."""
    reason = _NO_LOSSES
    if model is not None and not report.num_rows:
        model, reason = None, "the file has no row that a model could read"
    if model is not None and report.row_format == "reinforcement":
        model, reason = None, "rows for reinforcement hold no answers"
    if model is None:
        return with_findings(report, (), checks=(), skipped=dict.fromkeys(_LOSS_CODES, reason), statistics={})
    # torch takes seconds to import.
    from luthier.worker.row_losses import row_losses

    tell("stage", f"measuring how well {model.name} predicts a sample of the rows")
    found = row_losses(path, model, seed=seed, max_line_bytes=settings.max_line_bytes, method=method, num_threads=settings.train_threads)
    statistics = {"losses": {"model": model.name, **found.statistics}}
    return with_findings(report, found.findings, checks=_LOSS_CODES, skipped={}, statistics=statistics)


def main() -> None:
    """Command line: ``PATH [--validation ...] [--method ...] [--model ...] [--losses] [--seed N]``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--validation", type=Path, default=None)
    parser.add_argument("--method", choices=("supervised", "dpo", "reinforcement"), default=None)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--losses", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    # The command hears Ctrl-C and ends this process; it came blocked, which multiprocessing would undo.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A parsed row has no cycles and goes at once: looking for garbage among its dictionaries costs a quarter of the time.
    gc.set_threshold(100_000)

    def tell(kind: str, value: object) -> None:
        sys.stdout.buffer.write(orjson.dumps({kind: value}, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()

    with told_errors("luthier data doctor"):
        settings = from_environment()
        report = examine_data(
            arguments.path,
            validation=arguments.validation,
            method=arguments.method,
            models=arguments.model or [settings.default_base],
            losses=arguments.losses,
            seed=arguments.seed,
            settings=settings,
            tell=tell,
        )
        tell("report", report.to_dict())


if __name__ == "__main__":
    main()
