"""Sends a local file, in one request or in parts, with a bar on standard error once it takes longer than two seconds.

What it does: also the check of a file that is not sent yet (``--dry-run``), by the server's own rule. What it does not: print
the answer. Called by ``cli/files.py`` and ``cli/jobs_create.py``.
"""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from luthier.cli.exit_codes import InvalidData
from luthier.core.jsonl import JsonlCheck
from luthier.core.settings import Settings

if TYPE_CHECKING:
    import openai

MAX_SINGLE_BYTES = 512 * 1024 * 1024
"""Larger files go through ``/v1/uploads``, in parts (reference, section 1.3)."""
PART_BYTES = 64 * 1024 * 1024
_QUIET_SECONDS = 2.0
_CHUNK_BYTES = 1024 * 1024
LOCAL_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


def upload(client: "openai.OpenAI", path: Path, purpose: str, *, expires_after: int | None = None) -> dict[str, Any]:
    """Send the file; returns its object as the API sent it. Raises what the client raises.

    Args:
        client: of the server.
        path: a local file.
        purpose: what it is for.
        expires_after: how long it is kept, seconds; as long as the server keeps such files when None.
    """
    total = path.stat().st_size
    fields: dict[str, Any] = {"purpose": purpose}
    if expires_after is not None:
        fields["expires_after"] = {"anchor": "created_at", "seconds": expires_after}
    with _bar(path.name, total) as moved:
        if total > MAX_SINGLE_BYTES:
            return _in_parts(client, path, total, fields, moved)
        with _CountedFile(path, moved) as file:
            sent = client.files.create(file=(path.name, file), **fields)
    return sent.to_dict(mode="json")


def _in_parts(client: "openai.OpenAI", path: Path, total: int, fields: dict[str, Any], moved: Callable[[int], None]) -> dict[str, Any]:
    """Not by the client's own helper: it knows no expiry."""
    begun = client.uploads.create(filename=path.name, bytes=total, mime_type="text/jsonl", **fields)
    part_ids: list[str] = []
    with path.open("rb") as file:
        while data := file.read(PART_BYTES):
            part_ids.append(client.uploads.parts.create(begun.id, data=data).id)
            moved(len(part_ids) * PART_BYTES)
    done: Any = client.uploads.complete(begun.id, part_ids=part_ids)
    return done.file.to_dict(mode="json")


class _CountedFile(io.FileIO):
    """A file that tells how far it was read; a retry reads it again from the start."""

    def __init__(self, path: Path, moved: Callable[[int], None]) -> None:
        super().__init__(str(path), "rb")
        self._moved = moved

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(-1 if size is None else size)
        self._moved(self.tell())
        return data or b""


@contextmanager
def _bar(name: str, total: int, clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[int], None]]:
    """Yields a function that takes the number of bytes sent so far."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task(f"uploading {name}".replace("[", r"\["), total=total)
    began = clock()

    def moved(sent: int) -> None:
        progress.update(task, completed=min(sent, total))
        if clock() - began > _QUIET_SECONDS:
            progress.start()

    try:
        yield moved
    finally:
        progress.stop()


def check_lines(path: Path, settings: Settings) -> int:
    """Read a file as the server does at an upload; returns its size in bytes.

    Raises:
        InvalidData: it is empty, or a line is not a JSON dictionary.
    """
    import orjson

    check = JsonlCheck(orjson.loads, max_line_bytes=settings.max_line_bytes)
    total = 0
    with path.open("rb") as file:
        while check.fault is None and (data := file.read(_CHUNK_BYTES)):
            total += len(data)
            check.feed(data)
    fault = check.finish() or (None if total else "The file is empty.")
    if fault is not None:
        raise InvalidData(f"{path}: {fault}")
    return total
