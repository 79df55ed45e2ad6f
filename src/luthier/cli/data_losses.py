"""``luthier data losses``: the rows of a training file by how well a model predicts their answers.

What it does: starts the measuring as a process of the workshop, shows what it tells, writes every row as CSV. What it does not:
measure (``worker/row_losses.py``), or lay out the page (``render/losses.py``).
"""

import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from luthier.cli.exit_codes import ExitCode, InvalidData
from luthier.cli.printing import printable_output
from luthier.cli.settings_file import read_settings
from luthier.cli.upload import LOCAL_FILE
from luthier.cli.workshop import workshop

CSV_COLUMNS = ("line", "loss", "num_tokens", "num_correct", "finding")
_QUIET_SECONDS = 2.0


@click.command(epilog="Example: luthier data losses train.jsonl --model luthier-mini --csv losses.csv")
@click.argument("file", type=LOCAL_FILE)
@click.option("--model", default=None, help="A model's name, or its folder (default: the server's default base).")
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=25.0, show_default=True, help="How long to measure; larger files are sampled."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses the sample.")
@click.option("--method", type=click.Choice(["supervised", "dpo"]), default=None, help="What the rows are for (default: by the first row).")
@click.option("--top", type=click.IntRange(min=1, max=1000), default=10, show_default=True, help="Rows shown at each end.")
@click.option(
    "--csv", "csv_path", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write every measured row as CSV here."
)
@click.option("--json", "as_json", is_flag=True, help="Print every measured row and the findings as JSON.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), default=None, help="Where added and tuned models are (default ./luthier-data)."
)
def losses(
    file: Path,
    model: str | None,
    seconds: float,
    seed: int,
    method: str | None,
    top: int,
    csv_path: Path | None,
    as_json: bool,
    data_dir: Path | None,
) -> int:
    """Measure how well a model predicts the answers of FILE, and show the rows with the highest and the lowest loss.

    High: wrong, garbled or misplaced answers, or what is new to the model. Low: what it can do already. Of preference rows the preferred
    answer is measured. Needs no server.
    """
    options = [f"--seconds={seconds}", f"--seed={seed}"]
    options += [f"--{name}={value}" for name, value in (("model", model), ("method", method)) if value is not None]
    report = _run([str(file.resolve()), *options], data_dir, seconds)
    if csv_path is not None:
        _write(csv_path, report["rows"])
    printable_output()
    if as_json:
        click.echo(json.dumps(report))
    elif report["rows"]:
        _print(report, file.name, top)
    if report["rows"]:
        return ExitCode.DONE
    raise InvalidData(f"No row of {file} could be measured. See why: luthier data check {file}")


def _run(arguments: list[str], data_dir: Path | None, budget: float) -> dict[str, Any]:
    """The report; where the process fails, it has said why, and this one ends as it did."""
    # As in ``cli/serve.py``: threads that wait must not spin against a busy neighbour.
    environ = {"GOMP_SPINCOUNT": "3000", **os.environ, **read_settings(data_dir=data_dir).environment()}
    report: dict[str, Any] | None = None
    with workshop("row_losses", *arguments, environ=environ) as (process, output):
        with _progress(budget) as moved:
            for line in output:
                ((kind, value),) = json.loads(line).items()
                if kind == "report":
                    report = value
                else:
                    moved(value["rows"], value["seconds"])
        code = process.wait()
    if code or report is None:
        sys.exit(code if code > 0 else ExitCode.FAILED)
    return report


@contextmanager
def _progress(budget: float) -> Iterator[Callable[[int, float], None]]:
    """Yields a function that takes rows and seconds so far; a bar of the time appears after two seconds, on a terminal only."""
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("measuring"), BarColumn(), TextColumn("{task.fields[rows]:,} rows, at most {task.total:.0f} s"))
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task("", total=max(budget, 1.0), rows=0)
    began = time.monotonic()

    def moved(rows: int, seconds: float) -> None:
        progress.update(task, completed=min(seconds, budget), rows=rows)
        if time.monotonic() - began > _QUIET_SECONDS:
            progress.start()

    try:
        yield moved
    finally:
        progress.stop()


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(CSV_COLUMNS)
            table.writerows(["" if row[name] is None else row[name] for name in CSV_COLUMNS] for row in rows)
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be written ({error.strerror}).", param_hint="--csv") from error


def _print(report: dict[str, Any], name: str, top: int) -> None:
    from luthier.cli.render.losses import page

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    for part in page(report, name, top=top):
        console.print(part)
