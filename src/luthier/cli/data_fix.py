"""``luthier data fix``: a repaired copy of a training file. The work is in ``data/repair.py``."""

from pathlib import Path

import click

from luthier.cli.data_process import prepare
from luthier.cli.upload import LOCAL_FILE

_NEW_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(epilog="Example: luthier data fix train.jsonl -o train.fixed.jsonl --diff train.diff")
@click.argument("file", type=LOCAL_FILE)
@click.option("-o", "--output", type=_NEW_FILE, required=True, help="The repaired copy.")
@click.option("--diff", type=_NEW_FILE, default=None, help="Write a unified diff to this file.")
@click.option("--to-chat", is_flag=True, help="Make chat rows of all prompt/completion rows, not only in a file that mixes both.")
def fix(file: Path, output: Path, diff: Path | None, to_chat: bool) -> None:
    """Write a repaired copy of FILE and say what was changed.

    It cures what has one cure: byte order marks, CRLF, blank lines, trailing commas, typographic quotes, names of roles, arguments
    of tool calls, text/label columns and mixed formats. A line that is no JSON object still ends it with exit code 5.
    """
    options = [*([f"--diff={diff}"] if diff else []), *(["--to-chat"] if to_chat else [])]
    prepare("fix", f"--output={output}", *options, "--", str(file))
