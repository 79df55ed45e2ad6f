"""``luthier data show``: rows of a training file as the tokens that a model reads and learns.

What it does: starts the work as a process of the workshop, or as tasks of the server for a stored file, and shows what it tells, for
people or as JSON. What it does not: tokenize (``worker/row_preview.py``), or lay out the page (``render/row_tokens.py``).
"""

import json
import sys
from pathlib import Path
from typing import Any

import click

from luthier.cli.data_process import progress_shown
from luthier.cli.data_stored import FILE, StoredFile, run_task
from luthier.cli.exit_codes import ExitCode, InvalidData
from luthier.cli.options import Place, with_place
from luthier.cli.printing import printable_output
from luthier.cli.settings_file import read_settings
from luthier.cli.workshop import workshop


@click.command(epilog="Example: luthier data show train.jsonl --line 17 --model luthier-mini")
@click.argument("file", type=FILE)
@click.option(
    "--line", "lines", type=click.IntRange(min=1), multiple=True, default=(1,), show_default=True, help="A line; may be repeated."
)
@click.option("--model", default=None, help="The base: a name as in a job, or a model's folder (default: the server's default base).")
@click.option("--max-length", type=click.IntRange(min=1), default=None, help="Tokens at which rows are cut (default: as a job cuts them).")
@click.option(
    "--method",
    type=click.Choice(["supervised", "dpo", "reinforcement"]),
    default=None,
    help="What the rows are for (default: preferences if the first row is one, else supervised).",
)
@click.option(
    "--packing", is_flag=True, help="Tokenize the whole file and show where each line lies after packing: what the report foretells."
)
@click.option("--ids", is_flag=True, help="One line for each token, with its id and weight.")
@click.option("--all", "every", is_flag=True, help="All tokens of long messages.")
@click.option("--json", "as_json", is_flag=True, help="Print every token with everything known of it as JSON.")
@with_place
def show(
    file: Path | StoredFile,
    lines: tuple[int, ...],
    model: str | None,
    max_length: int | None,
    method: str | None,
    packing: bool,
    ids: bool,
    every: bool,
    as_json: bool,
    place: Place,
) -> int:
    """Show lines of FILE as tokens: whose they are, which are trained, which are only read, which are cut off.

    FILE is a path, for which no server is needed, or the id of a stored file. No weights are loaded. Ends with 5 when nothing can be
    learned from a line.

    --packing foretells best-fit packing at the length limit, for supervised rows. Training on a CPU puts rows of like length into one
    batch instead; on a GPU the rows of a batch lie end to end.
    """
    if isinstance(file, StoredFile):
        asked = {"model": model, "max_length": max_length, "method": method, "packing": packing or None}
        rows = [run_task(place, "preview", file_id=file.id, line=line, **asked)["result"] for line in lines]
        reader = {"name": rows[0]["model"], **{key: rows[0][key] for key in ("max_length", "max_length_reason")}}
    else:
        reader, rows = _local(file, lines, model, max_length, method, place.data_dir, packing=packing)
    printable_output()
    if as_json:
        click.echo(json.dumps({"object": "list", "model": reader, "data": rows}))
    else:
        _print(rows, reader, every=every, ids=ids)
    bad = [row["line"] for row in rows if not row["ok"]]
    if not bad:
        return ExitCode.DONE
    which = f"line {bad[0]:,}" if len(bad) == 1 else f"lines {', '.join(f'{line:,}' for line in bad)}"
    name = file.id if isinstance(file, StoredFile) else file
    if any(row["findings"] for row in rows if not row["ok"]):
        cure = f"See all faults of the file: luthier data check {name}"
    else:  # sound rows that this base cuts or refuses: a check knows no base
        cure = f"See how many rows the base cuts or refuses: luthier data doctor {name} --model {model or reader['name']}"
    raise InvalidData(f"Nothing can be learned from {which} of {name}. {cure}")


def _local(
    file: Path,
    lines: tuple[int, ...],
    model: str | None,
    max_length: int | None,
    method: str | None,
    data_dir: Path | None,
    *,
    packing: bool,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The base as rows are read for it, and the rows."""
    options = [f"--line={line}" for line in lines]
    options += [
        f"--{name}={value}" for name, value in (("model", model), ("max-length", max_length), ("method", method)) if value is not None
    ]
    options += ["--packing"] if packing else []
    told = _run([str(file.resolve()), *options], data_dir, title=f"packing {file.name}")
    return next(one["model"] for one in told if "model" in one), [one["row"] for one in told if "row" in one]


def _run(arguments: list[str], data_dir: Path | None, *, title: str) -> list[dict[str, Any]]:
    """What the process tells; where it fails, it has said why, and this one ends as it did."""
    told: list[dict[str, Any]] = []
    with workshop("show_row", *arguments, environ=read_settings(data_dir=data_dir).environment()) as (process, output):
        with progress_shown(title) as moved:
            for line in output:
                one = json.loads(line)
                if "progress" in one:
                    moved(one["progress"])
                else:
                    told.append(one)
        code = process.wait()
    if code:
        sys.exit(code if code > 0 else ExitCode.FAILED)
    return told


def _print(rows: list[dict[str, Any]], model: dict[str, Any], *, every: bool, ids: bool) -> None:
    from rich.console import Console

    from luthier.cli.render.row_tokens import legend, page

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    for number, row in enumerate(rows):
        if number:
            console.print()
        for part in page(row, model, every=every, ids=ids):
            console.print(part)
    if any(row["sequences"] for row in rows):
        console.print()
        console.print(legend())
