"""``luthier data import``: an ordinary training file from what is there. The work is in ``data/import_rows.py``."""

from pathlib import Path
from typing import Any

import click

from luthier.cli.data_process import prepare
from luthier.cli.data_stored import local_only, needed, run_task
from luthier.cli.options import Place, pairs, with_place
from luthier.cli.output import show_json, show_parts


@click.command(name="import", epilog="Example: luthier data import faq.csv -o faq.jsonl --map prompt=question --map completion=answer")
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=None, help="The new training file.")
@click.option(
    "--map",
    "columns",
    multiple=True,
    callback=pairs,
    help="FIELD=COLUMN where the guess is wrong; fields: messages, prompt, completion, chosen, rejected, system, input, tools. Repeatable.",
)
@click.option("--skip-bad", is_flag=True, help="Write the good rows although some cannot be mapped; those are listed all the same.")
@click.option("--stored-completions", is_flag=True, help="In place of SOURCE: the server's stored completions; the file is stored there.")
@click.option("--model", default=None, help="Only stored completions of this model.")
@click.option("--metadata", multiple=True, callback=pairs, help="name=value that a stored completion must carry; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@with_place
def import_(
    sources: tuple[str, ...],
    output: Path | None,
    columns: dict[str, str],
    skip_bad: bool,
    stored_completions: bool,
    model: str | None,
    metadata: dict[str, str],
    as_json: bool,
    place: Place,
) -> None:
    """Make a training file of chat rows from SOURCE: .csv, .tsv, .json, .jsonl, .parquet, a folder, hf://OWNER/NAME, or a stored file's id.

    The columns are guessed from their names, and the guess is shown. A row that cannot be mapped is listed with its place;
    then nothing is written and the exit code is 5, unless --skip-bad is given.
    """
    from luthier.cli.render.data_results import imported

    def show(result: dict[str, Any]) -> None:
        if as_json:
            show_json(result)
        else:
            show_parts(imported(result, result["file"]))

    asked = _asked_of_server(sources, stored_completions=stored_completions, model=model, metadata=metadata)
    if asked is not None:
        local_only(output=output)
        of_file = {} if stored_completions else {"map": columns or None, "skip_bad": skip_bad}
        task = run_task(place, "import", **asked, **of_file)
        show(task if as_json else {**task["result"], "file": task["result"]["files"]["training"]})
        return
    if not sources:
        raise click.UsageError("Missing argument 'SOURCE...'.")
    said = [f"--map={name}={column}" for name, column in columns.items()]
    options = [f"--output={needed('--output', output)}", *said, *(["--skip-bad"] if skip_bad else [])]
    prepare("import", *options, "--", *sources, title=f"importing {sources[0]}", show=show)


def _asked_of_server(
    sources: tuple[str, ...], *, stored_completions: bool, model: str | None, metadata: dict[str, str]
) -> dict[str, Any] | None:
    """What the server is asked to import; None when the sources are for this machine."""
    if stored_completions:
        if sources:
            raise click.UsageError("Give SOURCE or --stored-completions, not both.")
        wanted = {"model": model, "metadata": metadata or None}
        return {"stored_completions": {name: value for name, value in wanted.items() if value is not None}}
    if model is not None or metadata:
        raise click.UsageError("--model and --metadata choose among stored completions; add --stored-completions.")
    if len(sources) == 1 and sources[0].startswith("file-") and not Path(sources[0]).exists():
        return {"file_id": sources[0]}
    return None
