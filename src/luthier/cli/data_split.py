"""``luthier data split``: training and validation rows. The work is in ``data/split.py``."""

from pathlib import Path
from typing import Any

import click

from luthier.cli.data_process import prepare
from luthier.cli.data_stored import FILE, StoredFile, local_only, run_task
from luthier.cli.options import Place, with_place
from luthier.cli.output import show_json, show_parts


@click.command(epilog="Example: luthier data split all.jsonl --valid 0.1")
@click.argument("file", type=FILE)
@click.option(
    "--valid",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Share of the rows for validation.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Another number gives another split.")
@click.option(
    "--out-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), default=None, help="Folder for the two new files."
)
@click.option(
    "--group-by",
    multiple=True,
    help="For a stored file made of stored completions: rows whose completions have the same metadata NAME stay together. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@with_place
def split(
    file: Path | StoredFile, valid: float, seed: int, out_dir: Path | None, group_by: tuple[str, ...], as_json: bool, place: Place
) -> None:
    """Split FILE into NAME.train.jsonl and NAME.valid.jsonl beside it; the id of a stored file gives two stored files.

    The same rows give the same split in any order. Rows with equal or nearly equal prompts stay together; where answers are labels,
    each label gets its share.
    """
    from luthier.cli.render.data_results import split as page

    def show(result: dict[str, Any]) -> None:
        if as_json:
            show_json(result)
        else:
            show_parts(page(result, result["files"]))

    if isinstance(file, StoredFile):
        local_only(out_dir=out_dir)
        task = run_task(place, "split", file_id=file.id, valid=valid, seed=seed, group_by=list(group_by) or None)
        show(task if as_json else task["result"])
        return
    if group_by:
        raise click.UsageError("--group-by needs the id of a stored file: metadata belongs to the server's stored completions.")
    folder = [f"--out-dir={out_dir}"] if out_dir else []
    prepare("split", f"--valid={valid}", f"--seed={seed}", *folder, "--", str(file), title=f"splitting {file.name}", show=show)
