"""``luthier data import``: an ordinary training file from what is there. The work is in ``data/import_rows.py``."""

from pathlib import Path

import click

from luthier.cli.data_process import prepare
from luthier.cli.options import pairs


@click.command(name="import", epilog="Example: luthier data import faq.csv -o faq.jsonl --map prompt=question --map completion=answer")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The new training file.")
@click.option(
    "--map",
    "columns",
    multiple=True,
    callback=pairs,
    help="FIELD=COLUMN where the guess is wrong; a field is messages, prompt, completion, system, input or tools. Repeatable.",
)
@click.option("--skip-bad", is_flag=True, help="Write the good rows although some cannot be mapped; those are listed all the same.")
def import_(sources: tuple[str, ...], output: Path, columns: dict[str, str], skip_bad: bool) -> None:
    """Make a training file of chat rows from SOURCE: .csv, .tsv, .json, .jsonl, .parquet, a folder, or hf://OWNER/NAME.

    The columns are guessed from their names, and the guess is shown. A row that cannot be mapped is listed with its place;
    then nothing is written and the exit code is 5, unless --skip-bad is given.
    """
    said = [f"--map={name}={column}" for name, column in columns.items()]
    prepare("import", f"--output={output}", *said, *(["--skip-bad"] if skip_bad else []), "--", *sources)
