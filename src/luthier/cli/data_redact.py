"""``luthier data redact``: a copy of a training file without secrets and personal data. The work is in ``data/redact.py``."""

from pathlib import Path
from typing import Any

import click

from luthier.cli.data_process import prepare
from luthier.cli.data_stored import FILE, StoredFile, local_only, needed, run_task
from luthier.cli.options import Place, with_place
from luthier.cli.output import show_json, show_parts

_NEW_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(epilog="Example: luthier data redact train.jsonl -o train.redacted.jsonl --kinds secrets,emails")
@click.argument("file", type=FILE)
@click.option("-o", "--output", type=_NEW_FILE, default=None, help="The redacted copy, of a local FILE.")
@click.option("--kinds", default=None, metavar="NAMES", help="Of secrets, emails, phones, cards, ibans, ips, ids; default: all.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@with_place
def redact(file: Path | StoredFile, output: Path | None, kinds: str | None, as_json: bool, place: Place) -> None:
    """Write a copy of FILE with placeholders such as [EMAIL_1] for secrets and personal data, and say how many there were.

    FILE is a path, or the id of a stored file. Equal values get equal placeholders. Values are not kept or shown anywhere. A line that
    is no JSON object ends it with exit code 5, and nothing is written.
    """
    from luthier.cli.render.data_results import redacted

    def show(result: dict[str, Any]) -> None:
        if as_json:
            show_json(result)
        else:
            show_parts(redacted(result, result["file"]))

    if isinstance(file, StoredFile):
        local_only(output=output)
        names = None if kinds is None else [name.strip() for name in kinds.split(",") if name.strip()]
        task = run_task(place, "redact", file_id=file.id, kinds=names)
        show(task if as_json else {**task["result"], "file": task["result"]["files"]["redacted"]})
        return
    options = [] if kinds is None else [f"--kinds={kinds}"]
    prepare("redact", f"--output={needed('--output', output)}", *options, "--", str(file), title=f"redacting {file.name}", show=show)
