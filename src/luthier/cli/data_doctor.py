"""``luthier data doctor``: what a sound training file would teach, and what to do about it.

What it does: starts the examination as a process of the workshop, or as a task of the server for a stored file; shows its report for
people or as JSON, and writes it to a file. What it does not: examine (``data/doctor``), lay out the page
(``render/doctor_page.py``), or look at the server (``luthier doctor``).
"""

import json
import sys
from pathlib import Path
from typing import Any

import click

from luthier.cli.data_stored import FILE, StoredFile, run_task
from luthier.cli.exit_codes import ExitCode, InvalidData
from luthier.cli.options import Place, with_place
from luthier.cli.printing import printable_output
from luthier.cli.settings_file import read_settings
from luthier.cli.upload import progress_bar
from luthier.cli.workshop import workshop


@click.command(epilog="Example: luthier data doctor train.jsonl --validation valid.jsonl --output report.json")
@click.argument("file", type=FILE)
@click.option("--validation", type=FILE, default=None, help="A validation file: how far is it apart from FILE?")
@click.option("--model", "models", multiple=True, help="Count rows that this base cuts; a name or folder, repeatable [default base].")
@click.option("--losses", is_flag=True, help="Also measure how well the (first) model predicts a sample of the rows; half a minute.")
@click.option(
    "--method",
    type=click.Choice(["supervised", "dpo", "reinforcement"]),
    default=None,
    help="What the rows are for (default: preferences if the first row is one, else supervised).",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Chooses the samples.")
@click.option("--strict", is_flag=True, help="End with 5 when a finding is serious.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write the report as JSON here.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; the exit code tells.")
@with_place
def doctor(
    file: Path | StoredFile,
    validation: Path | StoredFile | None,
    models: tuple[str, ...],
    losses: bool,
    method: str | None,
    seed: int,
    strict: bool,
    as_json: bool,
    output: Path | None,
    quiet: bool,
    place: Place,
) -> int:
    """Examine FILE as a whole: copies, conflicting answers, overlap with validation, labels, lengths, leaks.

    Findings are advice: the command ends with 0. It ends with 5 when a job would fail over the file (see luthier data check). FILE is a
    path, for which no server is needed, or the id of a stored file. The state of the server is what luthier doctor looks at.
    """
    if as_json and quiet:
        raise click.UsageError("--json and --quiet exclude each other.")
    if isinstance(file, StoredFile):
        report = _ask(place, file, validation, models, method=method, losses=losses, seed=seed)
    else:
        if isinstance(validation, StoredFile):
            raise click.UsageError("FILE and --validation are both here, or both on the server.")
        report = _local(file, validation, models, place.data_dir, method=method, losses=losses, seed=seed, quiet=quiet)
    if output is not None:
        _write(output, report)
    printable_output()
    if as_json:
        click.echo(json.dumps(report, indent=1))
    elif not quiet:
        _print(report)
    names = [one.id if isinstance(one, StoredFile) else str(one) for one in (file, validation) if one is not None]
    return _end(names, report, strict=strict, quiet=quiet)


def _ask(
    place: Place, file: StoredFile, validation: object, models: tuple[str, ...], *, method: str | None, losses: bool, seed: int
) -> dict[str, Any]:
    """The report of the server."""
    if not isinstance(validation, StoredFile | None):
        raise click.UsageError("FILE and --validation are both here, or both on the server.")
    if len(models) > 1:
        raise click.UsageError("For a stored file one --model can be named.")
    other = None if validation is None else validation.id
    asked = {"validation_file_id": other, "method": method, "model": models[0] if models else None, "losses": losses, "seed": seed}
    report: dict[str, Any] = run_task(place, "doctor", file_id=file.id, **asked)["result"]
    return report


def _local(
    file: Path,
    validation: Path | None,
    models: tuple[str, ...],
    data_dir: Path | None,
    *,
    method: str | None,
    losses: bool,
    seed: int,
    quiet: bool,
) -> dict[str, Any]:
    """The report of a process here."""
    arguments = [str(file.resolve()), f"--seed={seed}", *(f"--model={name}" for name in models), *(["--losses"] if losses else [])]
    arguments += [f"--validation={validation.resolve()}"] if validation is not None else []
    arguments += [f"--method={method}"] if method is not None else []
    total = file.stat().st_size + (0 if validation is None else validation.stat().st_size)
    return _run(arguments, file.name, total, data_dir, quiet=quiet)


def _run(arguments: list[str], name: str, total: int, data_dir: Path | None, *, quiet: bool) -> dict[str, Any]:
    """The report; where the process fails, it has said why, and this one ends as it did."""
    report: dict[str, Any] | None = None
    with workshop("examine_data", *arguments, environ=read_settings(data_dir=data_dir).environment()) as (process, output):
        with progress_bar(f"examining {name}", total, shown=not quiet) as moved:
            for line in output:
                ((kind, value),) = json.loads(line).items()
                if kind == "report":
                    report = value
                elif kind == "progress":
                    moved(value)
                elif not quiet:
                    click.echo(f"{value} ...", err=True)
        code = process.wait()
    if code or report is None:
        sys.exit(code if code > 0 else ExitCode.FAILED)
    return report


def _write(path: Path, report: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be written ({error.strerror}).", param_hint="--output") from error


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console

    from luthier.cli.render.doctor_page import page

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    for part in page(report):
        console.print(part)


def _end(names: list[str], report: dict[str, Any], *, strict: bool, quiet: bool) -> int:
    """The exit code, or the sentence that ends the command with it."""
    statistics = report["statistics"]
    faulty = [(names[0], statistics["faults"])]
    if len(names) > 1:
        faulty.append((names[1], statistics["validation"]["faults"]))
    sentences = [_fault(path, faults) for path, faults in faulty if faults["first"] is not None]
    if sentences:
        command = f"luthier data check {' --validation '.join(names)}"
        sentence = f"{' '.join(sentences)} See all of it: {command}"
    elif strict and report["num_serious"]:
        number = report["num_serious"]
        sentence = f"{number} {'finding is' if number == 1 else 'findings are'} serious (--strict). See: luthier data doctor {names[0]}"
    else:
        return ExitCode.DONE
    if quiet:
        return ExitCode.DATA_INVALID
    raise InvalidData(sentence)


def _fault(path: str, faults: dict[str, Any]) -> str:
    if not faults["lines"]:
        return f"A job would fail over {path}: {faults['first']}."
    lines = f"{faults['lines']:,} line{'s'[: faults['lines'] != 1]}"
    return f"A job would fail over {lines} of {path}, which were left out here."
