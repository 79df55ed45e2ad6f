"""``luthier models``: list what is served, add a base model from a local folder; ``aliases.py`` adds the commands about aliases.

What it does: lists over HTTP; adds through a workshop process on the data directory. What it does not: import torch.
"""

import os
import subprocess
import sys
from pathlib import Path

import click

from luthier.cli.aliases import ALIAS_COMMANDS
from luthier.cli.client import get
from luthier.cli.options import Form, Place, with_form, with_place
from luthier.cli.output import Field, Item, show_page
from luthier.cli.settings_file import read_settings


def _own(name: str) -> Field:
    def text(model: Item) -> str:
        return str((model.get("luthier") or {}).get(name) or "")

    return Field(name.replace("_", " "), text, whole=name == "alias_of")


COLUMNS = (
    Field("model", lambda m: m["id"], whole=True),
    *(_own(name) for name in ("kind", "base", "licence", "alias_of")),
    Field("owned by", lambda m: m["owned_by"]),
)


@click.group(epilog="Example: luthier models list")
def models() -> None:
    """List the served models, add a base model from a local folder, or give models other names."""


@models.command(name="list", epilog="Example: luthier models list")
@with_form
@with_place
def list_models(place: Place, form: Form) -> None:
    """List every name that answers, newest first, with the open base under it and that base's licence."""
    show_page(get(place.client(), "/models"), COLUMNS, form, more="luthier models list")


@models.command(epilog="Example: luthier models add ./my-model --name my-model")
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
