"""``luthier data split``: training and validation rows. The work is in ``data/split.py``."""

from pathlib import Path

import click

from luthier.cli.data_process import prepare
from luthier.cli.upload import LOCAL_FILE

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(epilog="Example: luthier data split all.jsonl --valid 0.1")
@click.argument("file", type=LOCAL_FILE)
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
def split(file: Path, valid: float, seed: int, out_dir: Path | None) -> None:
    """Split FILE into NAME.train.jsonl and NAME.valid.jsonl beside it.

    The same rows give the same split in any order. Rows with equal or nearly equal prompts stay together; where answers are labels,
    each label gets its share.
    """
    place = [f"--out-dir={out_dir}"] if out_dir else []
    prepare("split", f"--valid={valid}", f"--seed={seed}", *place, "--", str(file))
