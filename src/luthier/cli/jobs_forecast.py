"""``luthier jobs forecast``: what a job would take, before it is made.

What it does: starts the forecast as a process of the workshop, or as a task of the server for stored files, and shows it for people or
as JSON. What it does not: estimate (``training/forecast.py``), or lay out the page (``render/forecast.py``).
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from luthier.cli.data_stored import FILE, StoredFile, run_task
from luthier.cli.exit_codes import InvalidData
from luthier.cli.options import AutoOr, Place, with_place
from luthier.cli.output import show_json
from luthier.cli.printing import printable_output
from luthier.cli.settings_file import read_settings
from luthier.core.errors import InvalidRequest, LuthierError

_SECONDS = 10.0
_ADAPTERS = ("lora", "rslora", "dora", "full")
_HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier")
_WORDS = {
    "rows": "reading and rendering the rows",
    "model": "loading the model",
    "forwards": "measuring forwards",
    "steps": "measuring steps",
    "saves": "measuring saves",
    "answers": "measuring answers",
}


@click.command(epilog="Example: luthier jobs forecast --training-file train.jsonl --n-epochs 3")
@click.option(
    "--model", default=None, help="A served model, an alias, or a model folder (default: LUTHIER_DEFAULT_BASE, else luthier-mini)."
)
@click.option("--training-file", "training", required=True, type=FILE, help="A local JSONL file, or the id of a stored one.")
@click.option("--validation-file", "validation", default=None, type=FILE, help="Held-out rows, likewise.")
@click.option("--method", type=click.Choice(["supervised", "dpo"]), default="supervised", show_default=True, help="What the rows are for.")
@click.option("--n-epochs", type=AutoOr(int), default="auto", help="Passes over the training file.")
@click.option("--batch-size", type=AutoOr(int), default="auto", help="Examples per step.")
@click.option("--learning-rate-multiplier", type=AutoOr(float), default="auto", help="Times the base learning rate.")
@click.option("--adapter", type=click.Choice(_ADAPTERS), default=_ADAPTERS[0], show_default=True, help="Which weights learn.")
@click.option("--rank", type=click.IntRange(1), default=None, help="Rank of the adapter.")
@click.option("--quantization", type=click.Choice(["nf4"]), default=None, help="Hold the base's linear layers in 4 bits (extra: qlora).")
@click.option("--max-length", type=click.IntRange(1), default=None, help="Longest row in tokens; longer ones are cut at the end.")
@click.option("--seed", type=click.IntRange(0, 2_147_483_647), default=0, help="The job's seed: it decides the order of the rows.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, 600),
    default=_SECONDS,
    show_default=True,
    help="Time for the measured dry run; 0 leaves it out and answers by formula.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the forecast as JSON.")
@with_place
def forecast(training: Path | StoredFile, validation: Path | StoredFile | None, as_json: bool, place: Place, **options: Any) -> None:
    """Tell what a job would take: tokens, steps, time, memory, cost. Runs a few real steps, and keeps nothing of them.

    The files are here, and no server is needed, or they are stored: then the server forecasts the job on its machine.
    """
    given = {name: value for name, value in options.items() if value not in (None, "auto")}
    if isinstance(training, StoredFile) and isinstance(validation, StoredFile | None):
        found = _ask(place, training, validation, given)
    elif isinstance(training, Path) and isinstance(validation, Path | None):
        found = _local(place, training, validation, given)
    else:
        raise click.UsageError("--training-file and --validation-file are both here, or both on the server.")
    printable_output()
    if as_json:
        show_json(found)
    else:
        _print_page(found)
    if not found["fits"]:
        raise LuthierError(found["refusal"])


def _ask(place: Place, training: StoredFile, validation: StoredFile | None, given: dict[str, Any]) -> dict[str, Any]:
    """The forecast of the server."""
    if given["seconds"] not in (0, _SECONDS):
        raise click.UsageError("For stored files --seconds is 0 or left out: the server decides how long it measures.")
    method = given["method"]
    part = {"hyperparameters": {name: given[name] for name in _HYPERPARAMETERS if name in given}}
    found: dict[str, Any] = run_task(
        place,
        "forecast",
        training_file=training.id,
        validation_file=None if validation is None else validation.id,
        model=given.get("model", read_settings(data_dir=place.data_dir).default_base),
        method={"type": method, method: part},
        luthier={name: given[name] for name in ("adapter", "rank", "quantization", "max_length") if name in given},
        seed=given["seed"],
        dry_run=given["seconds"] > 0,
    )["result"]
    return found


def _local(place: Place, training: Path, validation: Path | None, given: dict[str, Any]) -> dict[str, Any]:
    """The forecast of a process here."""
    settings = read_settings(data_dir=place.data_dir)
    files = ["--training-file", str(training.resolve()), *(["--validation-file", str(validation.resolve())] if validation else [])]
    given = {"model": settings.default_base, **given}
    words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    # As for the server's own processes (``cli/serve.py``): the spec decides how many threads train.
    environ = {"OMP_NUM_THREADS": "1", **os.environ, **settings.environment()}
    return _run([sys.executable, "-m", "luthier.worker.forecast_job", *files, *words], environ)


def _run(command: list[str], environ: dict[str, str]) -> dict[str, Any]:
    """The forecast. Raises LuthierError with what the process said when there is none."""
    from rich.console import Console

    found: dict[str, Any] | None = None
    console = Console(stderr=True)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, env=environ, text=True)
        assert process.stdout is not None
        try:
            with console.status("starting") as status:
                for line in process.stdout:
                    ((kind, value),) = json.loads(line).items()
                    if kind == "forecast":
                        found = value
                    elif console.is_terminal:
                        status.update(_WORDS.get(value, value))
                    else:
                        click.echo(f"{_WORDS.get(value, value)} ...", err=True)
            code = process.wait()
        finally:
            process.kill()
            process.wait()
        errors.seek(0)
        said = errors.read().strip()
    if code or found is None:
        message = said.splitlines()[-1].removeprefix("luthier: ") if said else f"The forecast ended with {code} and without a word."
        raise {5: InvalidData, 2: InvalidRequest}.get(code, LuthierError)(message)
    return found


def _print_page(found: dict[str, Any]) -> None:
    from rich.console import Console

    from luthier.cli.render.forecast import page

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    for part in page(found):
        console.print(part)
