"""``luthier data fix``: a repaired copy of a training file. The work is in ``data/repair.py``."""

from pathlib import Path
from typing import Any

import click

from luthier.cli.data_process import prepare
from luthier.cli.data_stored import FILE, StoredFile, local_only, needed, run_task
from luthier.cli.exit_codes import InvalidData
from luthier.cli.files import write_whole
from luthier.cli.options import Place, with_place
from luthier.cli.output import show_json, show_parts

_NEW_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(epilog="Example: luthier data fix train.jsonl -o train.fixed.jsonl --diff train.diff")
@click.argument("file", type=FILE)
@click.option("-o", "--output", type=_NEW_FILE, default=None, help="The repaired copy; a stored file's is stored.")
@click.option("--diff", type=_NEW_FILE, default=None, help="Write a unified diff to this file here.")
@click.option("--to-chat", is_flag=True, help="Make chat rows of all prompt/completion rows, not only in a file that mixes both.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@with_place
def fix(file: Path | StoredFile, output: Path | None, diff: Path | None, to_chat: bool, as_json: bool, place: Place) -> None:
    """Write a repaired copy of FILE, a path or the id of a stored file, and say what was changed.

    It cures what has one cure: byte order marks, CRLF, blank lines, trailing commas, typographic quotes, names of roles, arguments
    of tool calls, text/label columns and mixed formats. A line that is no JSON object still ends it with exit code 5.
    """
    from luthier.cli.render.data_results import fixed

    if isinstance(file, StoredFile):
        local_only(output=output)
        if diff is not None and diff.exists():
            raise click.BadParameter(f"{diff} exists already, and nothing is ever overwritten.", param_hint="--diff")
        task = run_task(place, "fix", file_id=file.id, to_chat=to_chat, diff=diff is not None)
        if diff is not None:
            with place.client().files.with_streaming_response.content(task["result"]["files"]["diff"]) as answer:
                write_whole(diff, answer.iter_bytes())
        if as_json:
            show_json(task)
        else:
            show_parts(fixed(task["result"], task["result"]["files"]["repaired"]))
        if broken := task["result"]["still_broken"]["count"]:
            raise InvalidData(
                f"No cure makes JSON objects of {broken:,} {'line' if broken == 1 else 'lines'}; they stand in the copy as they were. "
                f"See them: luthier data check {task['result']['files']['repaired']}"
            )
        return

    def show(result: dict[str, Any]) -> None:
        if as_json:
            show_json(result)
        else:
            show_parts(fixed(result, result["file"]))

    options = [*([f"--diff={diff}"] if diff else []), *(["--to-chat"] if to_chat else [])]
    arguments = (f"--output={needed('--output', output)}", *options, "--", str(file))
    prepare("fix", *arguments, title=f"repairing {file.name}", show=show)
