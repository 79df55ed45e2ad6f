"""``luthier data check``: every fault of a training file, before anything is uploaded.

What it does: starts the check as a process of the workshop, or as a task of the server for a stored file; shows its report for
people or as JSON, and writes every finding as CSV. What it does not: check (``data/check.py``), or lay out the page
(``render/data_report.py``).
"""

import csv
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import click

from luthier.cli.data_stored import FILE, StoredFile, all_findings, run_task
from luthier.cli.exit_codes import ExitCode, InvalidData
from luthier.cli.options import Place, with_place
from luthier.cli.printing import printable_output
from luthier.cli.settings_file import read_settings
from luthier.cli.upload import progress_bar
from luthier.cli.workshop import workshop
from luthier.core.data_report import CSV_COLUMNS, csv_cells
from luthier.core.errors import LuthierError

SHOWN = 50


class Findings:
    """The findings of one file: the first ones at hand, all of them on disk when they are to be printed."""

    def __init__(self, table: Any | None, spool: IO[str] | None) -> None:
        self._table = table
        self._spool = spool
        self.first: list[dict[str, Any]] = []

    def add(self, finding: dict[str, Any]) -> None:
        """Take the next one."""
        if len(self.first) < SHOWN:
            self.first.append(finding)
        if self._table is not None:
            self._table.writerow(csv_cells(finding))
        if self._spool is not None:
            self._spool.write(json.dumps(finding) + "\n")

    def lines(self) -> Iterator[str]:
        """Every finding as JSON, one by one."""
        assert self._spool is not None
        self._spool.seek(0)
        for line in self._spool:
            yield line.rstrip("\n")


@click.command(epilog="Example: luthier data check train.jsonl --validation valid.jsonl --csv faults.csv")
@click.argument("file", type=FILE)
@click.option(
    "--method",
    type=click.Choice(["supervised", "dpo", "reinforcement"]),
    default=None,
    help="What the rows are for (default: preferences if the first row is one, else supervised).",
)
@click.option("--validation", type=FILE, default=None, help="A validation file, checked by its own rules (one row is enough).")
@click.option("--json", "as_json", is_flag=True, help="Print the reports with every finding as JSON.")
@click.option("--csv", "csv_path", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write every finding as CSV here.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; the exit code tells.")
@with_place
def check(
    file: Path | StoredFile,
    method: str | None,
    validation: Path | StoredFile | None,
    as_json: bool,
    csv_path: Path | None,
    quiet: bool,
    place: Place,
) -> int:
    """Check FILE for everything a job would fail over, all at once; ends with 5 when there are faults.

    FILE is a path, for which no server is needed, or the id of a stored file, which the server checks.
    """
    if as_json and quiet:
        raise click.UsageError("--json and --quiet exclude each other.")
    files: list[tuple[Path | StoredFile, str]] = [(file, "training"), *([] if validation is None else [(validation, "validation")])]
    reports: list[dict[str, Any]] = []
    with ExitStack() as stack:
        table = None if csv_path is None else csv.writer(stack.enter_context(_csv_file(csv_path)))
        if table is not None:
            table.writerow(CSV_COLUMNS)
        all_findings: list[Findings] = []
        for one, role in files:
            spool = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")) if as_json else None
            findings = Findings(table, spool)
            # Where nobody said it, the training file's first row says what both files are for.
            asked = method or (reports[0]["method"] if reports else None)
            if isinstance(one, StoredFile):
                reports.append(_ask(place, one.id, role, asked, findings, every=table is not None or spool is not None))
            else:
                reports.append(_run(one, role, asked, findings, quiet=quiet))
            all_findings.append(findings)
        printable_output()
        if as_json:
            _print_json(reports, all_findings)
        elif not quiet:
            _print_pages(reports, all_findings)
    return _end(files, reports, quiet=quiet)


def _ask(place: Place, file_id: str, role: str, method: str | None, findings: Findings, *, every: bool) -> dict[str, Any]:
    """Have the server check a stored file; returns the report."""
    task = run_task(place, "check", file_id=file_id, role=role, method=method)
    report: dict[str, Any] = task["result"]
    first = report.pop("findings")
    for finding in all_findings(place, task["id"]) if every else first:
        findings.add(finding)
    return report


def _end(files: list[tuple[Path | StoredFile, str]], reports: list[dict[str, Any]], *, quiet: bool) -> int:
    """The exit code, or the sentence that ends the command with it."""
    names = [one.id if isinstance(one, StoredFile) else str(one) for one, _ in files]
    faulty = [(name, report["num_faults"]) for name, report in zip(names, reports, strict=True) if report["num_faults"]]
    if not faulty:
        return ExitCode.DONE
    if quiet:
        return ExitCode.DATA_INVALID
    counts = " and ".join(f"{name} has {number:,} fault{'s'[: number > 1]}" for name, number in faulty)
    raise InvalidData(f"{counts}. Correct the file and try again: luthier data check {names[0]}")


def _run(path: Path, role: str, method: str | None, findings: Findings, *, quiet: bool) -> dict[str, Any]:
    """Run the check of one file in a process of its own; returns the report."""
    arguments = [str(path.resolve()), "--role", role, *(["--method", method] if method is not None else [])]
    report: dict[str, Any] | None = None
    with workshop("check_data", *arguments, environ=read_settings(data_dir=None).environment()) as (process, output):
        with progress_bar(f"checking {path.name}", path.stat().st_size, shown=not quiet) as moved:
            for line in output:
                ((kind, value),) = json.loads(line).items()
                if kind == "finding":
                    findings.add(value)
                elif kind == "progress":
                    moved(value)
                else:
                    report = value
        code = process.wait()
    if code or report is None:
        raise LuthierError(f"The check of {path} ended with {code} and no report; what it said stands above.")
    return report


@contextmanager
def _csv_file(path: Path) -> Iterator[IO[str]]:
    try:
        file = path.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be written ({error.strerror}).", param_hint="--csv") from error
    with file:
        yield file


def _print_json(reports: list[dict[str, Any]], all_findings: list[Findings]) -> None:
    """A list of reports; the findings are copied line by line, because there may be millions."""
    click.echo('{"object": "list", "data": [')
    for number, (report, findings) in enumerate(zip(reports, all_findings, strict=True)):
        click.echo(json.dumps(report)[:-1] + ', "findings": [')
        comma = ""
        for line in findings.lines():
            click.echo(comma + line, nl=False)
            comma = ",\n"
        click.echo("]}" + "," * (number + 1 < len(reports)))
    click.echo("]}")


def _print_pages(reports: list[dict[str, Any]], all_findings: list[Findings]) -> None:
    from rich.console import Console

    from luthier.cli.render.data_report import page

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    for report, findings in zip(reports, all_findings, strict=True):
        for part in page(report, findings.first):
            console.print(part)
