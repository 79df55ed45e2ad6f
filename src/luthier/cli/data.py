"""``luthier data``: the commands about local training files. No server is needed."""

import click

from luthier.cli.data_check import check


@click.group(epilog="Example: luthier data check train.jsonl")
def data() -> None:
    """Check training files before any job reads them."""


data.add_command(check)
