"""``luthier data export``: a training file for other tools. The work is in ``data/export_rows.py``."""

from pathlib import Path

import click

from luthier.cli.data_process import prepare
from luthier.cli.upload import LOCAL_FILE


@click.command(epilog="Example: luthier data export train.jsonl --to csv -o train.csv")
@click.argument("file", type=LOCAL_FILE)
@click.option("--to", type=click.Choice(["csv", "alpaca", "sharegpt"]), required=True, help="The format.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The new file.")
@click.option("--skip-bad", is_flag=True, help="Write the other rows although the format cannot hold some; those are listed all the same.")
def export(file: Path, to: str, output: Path, skip_bad: bool) -> None:
    """Write the rows of FILE as a table (csv), Alpaca rows or ShareGPT conversations; importing them gives the same rows again."""
    prepare("export", f"--to={to}", f"--output={output}", *(["--skip-bad"] if skip_bad else []), "--", str(file))
