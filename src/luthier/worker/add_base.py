"""Adds a base model: ``python -m luthier.worker.add_base SOURCE --name NAME``, started by the CLI.

What it does: takes a local folder, or fetches ``OWNER/NAME[@REVISION]`` from the Hugging Face hub at one commit; refuses what could run
code, cannot be read or has no room here; proves that the model computes, puts it into the data directory (manifest with hashes last), and
registers its name. What it does not: train. It may run while the server runs; the name answers at once.
"""

import argparse
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from luthier.chat.renderer import Renderer
from luthier.core.conversation import conversation_of
from luthier.core.errors import AuthenticationFailed, InvalidRequest, LuthierError, NotFound, PermissionRefused, Unavailable
from luthier.core.jobs import ModelKind, ModelRecord, RunsOn
from luthier.core.settings import Settings, from_environment
from luthier.models.checkpoint import MANIFEST_NAME, publish_folder
from luthier.models.decoder_config import parse
from luthier.models.facts import ModelFacts, cached_snapshot, check_config, check_folder, read_config, read_facts, read_licence
from luthier.models.load import load_model
from luthier.storage.aliases import AliasStore
from luthier.storage.database import Database, migrate
from luthier.storage.models import ModelStore
from luthier.worker.base_room import check_disk, gigabytes, parameters_of, room_for
from luthier.worker.hub_download import alone_in, fetch, present_bytes, remaining_bytes
from luthier.worker.hub_model import HUB, HubModel, HubSource, is_small_file, look_up, parse_source, staging_folder, weight_names
from luthier.worker.process_edge import on_one_line

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CHUNK_BYTES = 8 * 1024 * 1024
# Those of ``cli/exit_codes.py``, which stands a floor above.
_EXIT_CODES: tuple[tuple[tuple[type[LuthierError], ...], int], ...] = (
    ((InvalidRequest,), 2),
    ((AuthenticationFailed, PermissionRefused), 3),
    ((NotFound,), 4),
    ((Unavailable,), 6),
)
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A base that was added."""

    record: ModelRecord
    facts: ModelFacts


def prove(folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Load the model, render a prompt, and look whether one forward pass gives finite numbers.

    Raises:
        InvalidRequest: it does not.
    """
    model, renderer = load_model(folder, dtype=dtype), Renderer.load(folder)
    ids = torch.as_tensor(renderer.prompt(conversation_of([{"role": "user", "content": "Hello"}])).ids_T)[None]
    with torch.inference_mode():
        logits = model.logits_at(ids, torch.tensor([ids.shape[1]]), torch.tensor([0]), torch.tensor([ids.shape[1] - 1]))
    if not bool(torch.isfinite(logits).all()):
        raise InvalidRequest(f"The model in {folder} computes numbers that are not finite.")


def model_files(folder: Path) -> list[Path]:
    """The model's own files in a folder; everything else in it (pickles, code, images, a second copy of the weights) stays behind."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    weights = set(weight_names([file.name for file in files]))
    left = ("README.md", MANIFEST_NAME)
    return [file for file in files if file.name in weights or (is_small_file(file.name) and file.name not in left)]


@contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, where that is a terminal; yields what is to be told how many bytes are done."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)


def place_files(source: Path, target: Path, *, ours: bool) -> None:
    """Copy the model's own files, with a progress bar; files that are ours get a second name instead where the disk can."""
    files = model_files(source)
    with bar(f"copying {source.name}", sum(file.stat().st_size for file in files)) as advance:
        for file in files:
            if ours and _linked(file, target / file.name):
                continue
            with file.open("rb") as read, (target / file.name).open("wb") as write:
                while chunk := read.read(_CHUNK_BYTES):
                    write.write(chunk)
                    advance(len(chunk))


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def check_name(settings: Settings, name: str) -> None:
    """Refuse a name that is none or is taken.

    Raises:
        InvalidRequest: it is.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"{name!r} is not a model name: letters, digits, '.', '_' and '-', at most 64, no leading mark.")
    migrate(settings.state_database)
    database = Database(settings.state_database)
    try:
        if ModelStore(database).get(name) is not None:
            raise InvalidRequest(f"A model named {name!r} already exists. Choose another --name.")
        if name in settings.aliases or AliasStore(database).get(name) is not None:
            raise InvalidRequest(f"{name!r} is an alias on this server. Choose another --name, or delete the alias first.")
    finally:
        database.close()


def bring(settings: Settings, source: HubSource, *, tell: Tell) -> tuple[HubModel, Path]:
    """Fetch a model of the hub into the data directory's own place for downloads; returns it and the folder.

    The small files come first: a model that is refused for what they say, or that has no room here, costs nothing more.

    Raises:
        LuthierError: see ``look_up``, ``fetch`` and ``room_for``; what has come is kept for the next call.
    """
    model = look_up(source)
    folder = staging_folder(settings.data_dir, model)
    wanted = f" ({source.revision})" if source.revision and source.revision != model.commit else ""
    what = f"{gigabytes(model.num_bytes)} in {len(model.files)} files"
    tell(f"{model.repo} at {model.commit[:12]}{wanted}: licence {model.licence or 'not named by its card'}, {what}.")
    with alone_in(folder):
        check_disk(folder, remaining_bytes(model, folder))
        with bar(f"fetching {model.repo}", model.num_bytes) as advance:
            for number, file in enumerate(model.files):
                if file.name.endswith(".safetensors") and not model.files[number - 1].name.endswith(".safetensors"):
                    _judge(settings, model, folder, tell)
                advance(present_bytes(file, folder))
                fetch(model, file, folder, advance)
    return model, folder


def _judge(settings: Settings, model: HubModel, folder: Path, tell: Tell) -> None:
    """Refuse a model by its small files, before its weights are fetched."""
    config = read_config(folder)
    check_config(config, model.repo)
    room = room_for(settings, config, num_parameters=model.num_parameters or parameters_of(config, model.weight_bytes))
    _ = room.dtype
    tell(room.sentence)


def add_base(settings: Settings, source: Path, name: str, *, hub: HubModel | None = None, tell: Tell = lambda _: None) -> Added:
    """Check, copy and register one base model.

    Args:
        settings: of the server.
        source: the model's folder.
        name: under which it trains and answers.
        hub: what it is on the hub; then the folder is ours, and is taken away in the end.
        tell: is told about room and licence.

    Raises:
        InvalidRequest: the name or the folder cannot be used; nothing is left behind.
        StorageFull, LuthierError: no room on the disk or in memory.
    """
    check_name(settings, name)
    check_folder(source)
    final = settings.bases_dir / name
    room = room_for(settings, read_config(source), num_parameters=read_facts(source, hashed=False).num_parameters)
    if hub is None:
        check_disk(final, sum(file.stat().st_size for file in model_files(source)))
        tell(f"{source.name}: licence {read_licence(source) or 'not named by its card'}. {room.sentence}")
    prove(source, room.dtype)
    shutil.rmtree(final, ignore_errors=True)  # without a record nobody can be using it: an earlier, unfinished addition
    settings.bases_dir.mkdir(parents=True, exist_ok=True)
    address = hub.address if hub is not None else _address_of(source)
    meta = {"base": name} | ({} if address is None else {"source": address})
    sha256 = publish_folder(final, lambda target: place_files(source, target, ours=hub is not None), meta)
    facts = read_facts(final)
    record = ModelRecord(
        name=name,
        kind=ModelKind.BASE,
        base=name,
        path=str(final.relative_to(settings.data_dir)),
        created_at=int(time.time()),
        owned_by=settings.organization,
        sha256=sha256,
        revision=facts.revision,
        licence=read_licence(source) or (hub.licence if hub is not None else None),
        source=address,
        num_bytes=sum(file.stat().st_size for file in model_files(final)),
        runs_on=RunsOn.GENERIC if parse(read_config(final)) is None else RunsOn.FAST,
    )
    database = Database(settings.state_database)
    ModelStore(database).put(record)
    database.close()
    if hub is not None:
        shutil.rmtree(source, ignore_errors=True)
    return Added(record=record, facts=facts)


def _address_of(folder: Path) -> str | None:
    """Where a snapshot in the hub's own cache came from."""
    found = cached_snapshot(folder)
    return None if found is None else f"{HUB}{found[0]}@{found[1]}"


def add(settings: Settings, source: str, name: str | None, *, tell: Tell) -> Added:
    """Add a folder, or what else ``source`` names: a model of the hub. Without a name it is the folder's or the repository's own.

    Raises:
        LuthierError: see ``add_base`` and ``bring``; or there is neither folder nor hub id.
    """
    folder = Path(source).expanduser()
    if not source.startswith(HUB) and folder.is_dir():
        folder = folder.absolute()
        snapshot = cached_snapshot(folder)
        return add_base(settings, folder, name or (snapshot[0].rpartition("/")[2] if snapshot else folder.name), tell=tell)
    asked = parse_source(source)
    if asked is None or source.startswith((".", "/", "~")):
        raise InvalidRequest(
            f"There is no folder {source}, and it is no model of the hub: those are OWNER/NAME or hf://OWNER/NAME@REVISION."
        )
    name = name or asked.repo.rpartition("/")[2]
    check_name(settings, name)
    hub, staged = bring(settings, asked, tell=tell)
    return add_base(settings, staged, name, hub=hub, tell=tell)


def main() -> None:
    """Command line: ``SOURCE [--name NAME] [--json]``; the data directory comes from the environment."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("--name")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        added = add(from_environment(), arguments.source, arguments.name, tell=lambda text: print(on_one_line(text), file=sys.stderr))
    except LuthierError as error:
        print(f"luthier: {on_one_line(error.message)}", file=sys.stderr)
        sys.exit(next((code for kinds, code in _EXIT_CODES if isinstance(error, kinds)), 1))
    except KeyboardInterrupt:
        print("luthier: Interrupted. Run the command again: what has come is kept.", file=sys.stderr)
        sys.exit(130)
    record, facts = added.record, added.facts
    if arguments.json:
        shown = {"id": record.name, "source": record.source, "base_revision": record.revision, "licence": record.licence}
        print(json.dumps({**shown, "size_bytes": record.num_bytes, "runs_on": record.runs_on, "num_parameters": facts.num_parameters}))
        return
    engine = "the fast path" if record.runs_on is RunsOn.FAST else "transformers"
    print(f"{record.name}: {facts.family}, {facts.num_parameters:,} parameters, context {facts.max_length}, runs on {engine}.")


if __name__ == "__main__":
    main()
