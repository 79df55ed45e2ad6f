"""``luthier models``: list, get, delete, add a base model from a folder or from the hub; ``aliases.py`` adds the commands about aliases.

What it does: speaks HTTP; adds through a workshop process on the data directory. What it does not: import torch.
"""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import click

from luthier.cli.aliases import MODEL_COMMANDS
from luthier.cli.client import delete, get
from luthier.cli.options import Form, Place, with_form, with_place
from luthier.cli.output import Field, Item, show_object, show_page
from luthier.cli.render.text import size, when
from luthier.cli.settings_file import read_settings


def _own(name: str) -> Field:
    def text(model: Item) -> str:
        return str((model.get("luthier") or {}).get(name) or "")

    return Field(name.replace("_", " "), text, whole=name == "alias_of")


def _size(model: Item) -> str:
    num_bytes = (model.get("luthier") or {}).get("size_bytes")
    return "" if num_bytes is None else size(num_bytes)


def _short_revision(model: Item) -> str:
    return str((model.get("luthier") or {}).get("base_revision") or "")[:12]


_HEAD = (Field("model", lambda m: m["id"], whole=True), *(_own(name) for name in ("kind", "base", "licence", "alias_of")))
_PATH = Field("path", lambda m: str((m.get("luthier") or {}).get("runs_on") or ""))
_OWNER = Field("owned by", lambda m: m["owned_by"])
COLUMNS = (*_HEAD, Field("revision", _short_revision), Field("size", _size), _PATH, _OWNER)
LINES = (
    *_HEAD,
    _OWNER,
    *(_own(name) for name in ("source", "base_revision", "job_id", "step")),
    Field("size", _size),
    _PATH,
    Field("created", lambda m: when(m["created"])),
    Field("shuts down", lambda m: m.get("shutdown_date") or ""),
)
_DELETED = (Field("deleted", lambda m: m["id"]),)


@click.group(epilog="Example: luthier models list")
def models() -> None:
    """List, show and delete served models, add a base model from a folder or the hub, or give models other names."""


@models.command(name="list", epilog="Example: luthier models list")
@with_form
@with_place
def list_models(place: Place, form: Form) -> None:
    """List every name that answers, newest first, with the open base under it: licence, revision, size, and which path computes it."""
    show_page(get(place.client(), "/models"), COLUMNS, form, more="luthier models list")


def _path(name: str) -> str:
    return f"/models/{quote(name, safe='')}"


@models.command(name="get", epilog="Example: luthier models get luthier-mini")
@click.argument("name")
@with_form
@with_place
def get_model(name: str, place: Place, form: Form) -> None:
    """Show the model or alias NAME."""
    show_object(get(place.client(), _path(name)), LINES, form)


@models.command(name="delete", epilog="Example: luthier models delete ft:gpt-4o-mini-2024-07-18:acme:support:dS6Na5ML")
@click.argument("name")
@with_form
@with_place
def delete_model(name: str, place: Place, form: Form) -> None:
    """Delete the tuned model or checkpoint NAME: it answers no more. Bases, and models that an alias stands for, stay."""
    show_object(delete(place.client(), _path(name)), _DELETED, form)


@models.command(epilog="Example: luthier models add Qwen/Qwen3-0.6B --name qwen3-small")
@click.argument("source")
@click.option("--name", default=None, help="The name under which it trains and answers (default: the folder's or the repository's own).")
@click.option("--json", "as_json", is_flag=True, help="Print what was added as JSON.")
@click.option("--data-dir", type=click.Path(path_type=Path), default=None, help="The server's data directory (default ./luthier-data).")
def add(source: str, name: str | None, as_json: bool, data_dir: Path | None) -> None:
    """Add the causal language model SOURCE: a folder, or OWNER/NAME[@REVISION] of the Hugging Face hub.

    Safetensors only, no remote code. A download that was interrupted goes on when the command is run again. The server may run meanwhile.
    """
    settings = read_settings(data_dir=data_dir)
    settings = read_settings(data_dir=settings.data_dir.resolve())
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [sys.executable, "-m", "luthier.worker.add_base", *(("--name", name) if name else ()), *(("--json",) if as_json else ())]
    command += ["--", source]
    process = subprocess.Popen(command, env={**os.environ, **settings.environment()})
    while True:
        try:
            sys.exit(process.wait())
        except KeyboardInterrupt:
            # The terminal told the process too: it says what is kept, and ends.
            continue


for _command in MODEL_COMMANDS:
    models.add_command(_command)
