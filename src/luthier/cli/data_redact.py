"""``luthier data redact``: a copy of a training file without secrets and personal data. The work is in ``data/redact.py``."""

from pathlib import Path

import click

from luthier.cli.data_process import prepare
from luthier.cli.upload import LOCAL_FILE

_NEW_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(epilog="Example: luthier data redact train.jsonl -o train.redacted.jsonl --kinds secrets,emails")
@click.argument("file", type=LOCAL_FILE)
@click.option("-o", "--output", type=_NEW_FILE, required=True, help="The redacted copy.")
@click.option(
    "--kinds", default=None, metavar="NAMES", help="What to replace: secrets, emails, phones, cards, ibans, ips, ids; default: all."
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def redact(file: Path, output: Path, kinds: str | None, as_json: bool) -> None:
    """Write a copy of FILE with placeholders such as [EMAIL_1] for secrets and personal data, and say how many there were.

    Equal values get equal placeholders. Values are not kept or shown anywhere. A line that is no JSON object ends it with exit code 5,
    and nothing is written.
    """
    options = [*([f"--kinds={kinds}"] if kinds is not None else []), *(["--json"] if as_json else [])]
    prepare("redact", f"--output={output}", *options, "--", str(file))
