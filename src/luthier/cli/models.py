"""``luthier models``: list what is served, add a base model from a local folder.

What it does: lists over HTTP; adds through a workshop process on the data directory. What it does not: import torch.
"""

import os
import subprocess
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Column, Table

from luthier.cli.client import connect
from luthier.core.settings import from_environment


@click.group(epilog="Example: luthier models list")
def models() -> None:
    """List the served models, or add a base model from a local folder."""


@models.command(name="list", epilog="Example: luthier models list")
@click.option("--url", default=None, help="The server's address.")
@click.option("--api-key", default=None, help="Its key; found in the data directory by default.")
@click.option("--data-dir", type=click.Path(path_type=Path), default=None, help="The server's data directory.")
def list_models(url: str | None, api_key: str | None, data_dir: Path | None) -> None:
    """List every model that answers."""
    client = connect(url=url, api_key=api_key, data_dir=data_dir)
    table = Table(Column("model", overflow="fold"), "base", "kind", "owned by")
    for model in client.models.list():
        extra = (model.model_extra or {}).get("luthier", {})
        table.add_row(model.id, str(extra.get("base", "")), str(extra.get("kind", "")), model.owned_by)
    Console().print(table)


@models.command(epilog="Example: luthier models add ./my-model --name my-model")
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", required=True, help="The name under which it trains and answers.")
@click.option("--data-dir", type=click.Path(path_type=Path), default=None, help="The server's data directory (default ./luthier-data).")
def add(path: Path, name: str, data_dir: Path | None) -> None:
    """Add the Hugging Face causal LM in PATH (safetensors only, no remote code). The server may run meanwhile."""
    settings = from_environment(data_dir=data_dir)
    settings = from_environment(data_dir=settings.data_dir.resolve())
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [sys.executable, "-m", "luthier.worker.add_base", str(path.resolve()), "--name", name]
    sys.exit(subprocess.run(command, env={**os.environ, **settings.environment()}, check=False).returncode)
