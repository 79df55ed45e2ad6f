"""``luthier models``: list what is served, add a base model from a local folder; ``aliases.py`` adds the commands about aliases.

What it does: lists over HTTP; adds through a workshop process on the data directory. What it does not: import torch.
"""

import os
import subprocess
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Column, Table

from luthier.cli.aliases import ALIAS_COMMANDS
from luthier.cli.client import connect
from luthier.cli.printing import client_errors, printable_output
from luthier.cli.settings_file import read_settings


@click.group()
def models() -> None:
    """List the served models, add a base model from a local folder, or give models other names."""


@models.command(name="list")
@click.option("--url", default=None, help="The server's address.")
@click.option("--api-key", default=None, help="Its key; found in the data directory by default.")
@click.option("--data-dir", type=click.Path(path_type=Path), default=None, help="The server's data directory.")
def list_models(url: str | None, api_key: str | None, data_dir: Path | None) -> None:
    """List every name that answers, newest first, with the open base under it and that base's licence."""
    printable_output()
    client = connect(url=url, api_key=api_key, data_dir=data_dir)
    with client_errors():
        served = client.models.list().data
    table = Table(Column("model", overflow="fold"), "kind", "base", "licence", Column("alias of", overflow="fold"), "owned by")
    for model in served:
        extra = (model.model_extra or {}).get("luthier", {})
        table.add_row(model.id, *(str(extra.get(name) or "") for name in ("kind", "base", "licence", "alias_of")), model.owned_by)
    Console().print(table)


@models.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", required=True, help="The name under which it trains and answers.")
@click.option("--data-dir", type=click.Path(path_type=Path), default=None, help="The server's data directory (default ./luthier-data).")
def add(path: Path, name: str, data_dir: Path | None) -> None:
    """Add the Hugging Face causal LM in PATH (safetensors only, no remote code). The server may run meanwhile."""
    settings = read_settings(data_dir=data_dir)
    settings = read_settings(data_dir=settings.data_dir.resolve())
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [sys.executable, "-m", "luthier.worker.add_base", str(path.resolve()), "--name", name]
    sys.exit(subprocess.run(command, env={**os.environ, **settings.environment()}, check=False).returncode)


for _command in ALIAS_COMMANDS:
    models.add_command(_command)
