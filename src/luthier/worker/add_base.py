"""Adds a base model from a local folder: ``python -m luthier.worker.add_base PATH --name NAME``, started by the CLI.

What it does: refuses what could run code or cannot be read, proves that the model computes, copies it into the data
directory (manifest with hashes last), and registers its name. What it does not: download anything. It may run while the
server runs; the name answers at once.
"""

import argparse
import re
import shutil
import sys
import time
from pathlib import Path

import torch
from rich.progress import Progress

from luthier.chat.renderer import Renderer
from luthier.core.conversation import conversation_of
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.jobs import ModelKind, ModelRecord
from luthier.core.settings import Settings, from_environment
from luthier.models.checkpoint import publish_folder
from luthier.models.decoder_config import parse
from luthier.models.facts import ModelFacts, check_folder, read_config, read_facts, read_licence
from luthier.models.load import load_model
from luthier.storage.aliases import AliasStore
from luthier.storage.database import Database, migrate
from luthier.storage.models import ModelStore

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# What a Hugging Face causal LM consists of; everything else in the folder (pickles, code, images) stays behind.
_WANTED = (".json", ".safetensors", ".jinja", ".model")
_CHUNK_BYTES = 8 * 1024 * 1024


def prove(folder: Path) -> None:
    """Load the model, render a prompt, and look whether one forward pass gives finite numbers.

    Raises:
        InvalidRequest: it does not.
    """
    model, renderer = load_model(folder), Renderer.load(folder)
    ids = torch.as_tensor(renderer.prompt(conversation_of([{"role": "user", "content": "Hello"}])).ids_T)[None]
    with torch.inference_mode():
        logits = model.logits_at(ids, torch.tensor([ids.shape[1]]), torch.tensor([0]), torch.tensor([ids.shape[1] - 1]))
    if not bool(torch.isfinite(logits).all()):
        raise InvalidRequest(f"The model in {folder} computes numbers that are not finite.")


def copy_with_progress(source: Path, target: Path) -> None:
    """Copy the model's own files, with a progress bar."""
    files = [f for f in sorted(source.iterdir()) if f.is_file() and f.suffix in _WANTED]
    with Progress(transient=True) as progress:
        task = progress.add_task(f"copying {source.name}", total=sum(f.stat().st_size for f in files))
        for file in files:
            with file.open("rb") as read, (target / file.name).open("wb") as write:
                while chunk := read.read(_CHUNK_BYTES):
                    write.write(chunk)
                    progress.advance(task, len(chunk))


def add_base(settings: Settings, source: Path, name: str) -> ModelFacts:
    """Check, copy and register one base model; returns its facts.

    Raises:
        InvalidRequest: the name or the folder cannot be used; nothing is left behind.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"{name!r} is not a model name: letters, digits, '.', '_' and '-', at most 64, no leading mark.")
    migrate(settings.state_database)
    database = Database(settings.state_database)
    models = ModelStore(database)
    if models.get(name) is not None:
        raise InvalidRequest(f"A model named {name!r} already exists. Choose another --name.")
    if name in settings.aliases or AliasStore(database).get(name) is not None:
        raise InvalidRequest(f"{name!r} is an alias on this server. Choose another --name, or delete the alias first.")
    check_folder(source)
    prove(source)
    final = settings.bases_dir / name
    shutil.rmtree(final, ignore_errors=True)  # without a record nobody can be using it: an earlier, unfinished addition
    settings.bases_dir.mkdir(parents=True, exist_ok=True)
    sha256 = publish_folder(final, lambda target: copy_with_progress(source, target), {"base": name})
    facts = read_facts(final)
    models.put(
        ModelRecord(
            name=name,
            kind=ModelKind.BASE,
            base=name,
            path=str(final.relative_to(settings.data_dir)),
            created_at=int(time.time()),
            owned_by=settings.organization,
            sha256=sha256,
            revision=facts.revision,
            licence=read_licence(source),
        )
    )
    database.close()
    return facts


def main() -> None:
    """Command line: ``PATH --name NAME``; the data directory comes from the environment."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--name", required=True)
    arguments = parser.parse_args()
    settings = from_environment()
    try:
        facts = add_base(settings, arguments.path.resolve(), arguments.name)
    except LuthierError as error:
        sys.exit(f"luthier: {error.message}")
    engine = "transformers" if parse(read_config(settings.bases_dir / arguments.name)) is None else "the fast path"
    print(f"{arguments.name}: {facts.family}, {facts.num_parameters:,} parameters, context {facts.max_length}, runs on {engine}.")


if __name__ == "__main__":
    main()
