"""``luthier data export``: a training file for other tools. The work is in ``data/export_rows.py``."""

from pathlib import Path
from typing import Any

import click

from luthier.cli.data_process import prepare
from luthier.cli.data_stored import FILE, StoredFile, local_only, needed, run_task
from luthier.cli.options import Place, with_place
from luthier.cli.output import show_json, show_parts


@click.command(epilog="Example: luthier data export train.jsonl --to csv -o train.csv")
@click.argument("file", type=FILE)
@click.option("--to", type=click.Choice(["csv", "alpaca", "sharegpt"]), required=True, help="The format.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=None, help="The new file, of a local FILE.")
@click.option("--skip-bad", is_flag=True, help="Write the other rows although the format cannot hold some; those are listed all the same.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@with_place
def export(file: Path | StoredFile, to: str, output: Path | None, skip_bad: bool, as_json: bool, place: Place) -> None:
    """Write the rows of FILE as a table (csv), Alpaca rows or ShareGPT conversations; importing them gives the same rows again."""
    from luthier.cli.render.data_results import exported

    def show(result: dict[str, Any]) -> None:
        if as_json:
            show_json(result)
        else:
            show_parts(exported(result, result["file"]))

    if isinstance(file, StoredFile):
        local_only(output=output)
        task = run_task(place, "export", file_id=file.id, format=to, skip_bad=skip_bad)
        show(task if as_json else {**task["result"], "file": task["result"]["files"]["exported"]})
        return
    options = [f"--to={to}", f"--output={needed('--output', output)}", *(["--skip-bad"] if skip_bad else [])]
    prepare("export", *options, "--", str(file), title=f"exporting {file.name}", show=show)
