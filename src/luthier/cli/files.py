"""``luthier files``: upload, list, get, content, delete, and a file made from stored completions.

What it does: speaks HTTP and prints. What it does not: look into rows. Sending is in ``cli/upload.py``.
"""

import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from luthier.cli.client import delete, get, post
from luthier.cli.options import FileLifetime, Form, Place, pairs, with_form, with_place
from luthier.cli.output import Field, Item, show_object, show_page
from luthier.cli.render.text import size, when
from luthier.cli.upload import LOCAL_FILE, upload

FIELDS = (
    Field("id", lambda f: f["id"], whole=True),
    Field("name", lambda f: f["filename"]),
    Field("size", lambda f: size(f["bytes"]), whole=True),
    Field("purpose", lambda f: f["purpose"]),
    Field("created", lambda f: when(f["created_at"]), whole=True),
    Field("expires", lambda f: when(f["expires_at"]) if f.get("expires_at") else ""),
)


def _own(name: str) -> Field:
    def text(file: Item) -> str:
        value = (file.get("luthier") or {}).get(name)
        return "" if value is None else f"{value:,}"

    return Field(name.replace("_", " "), text)


_MADE = (*FIELDS, _own("rows"), _own("left_out"))
_DELETED = (Field("deleted", lambda f: f["id"]),)
_CHUNK_BYTES = 1024 * 1024


@click.group(epilog="Example: luthier files upload train.jsonl")
def files() -> None:
    """Upload, list, read and delete files."""


@files.command(name="upload", epilog="Example: luthier files upload train.jsonl --expires-after 30d")
@click.argument("path", type=LOCAL_FILE)
@click.option("--purpose", default="fine-tune", show_default=True, help="What the file is for.")
@click.option("--expires-after", type=FileLifetime(), default=None, help="Keep it so long only: seconds, or a span such as 12h or 30d.")
@with_form
@with_place
def upload_file(path: Path, purpose: str, expires_after: int | None, place: Place, form: Form) -> None:
    """Send the local file PATH; beyond 512 MB it goes in parts."""
    show_object(upload(place.client(), path, purpose, expires_after=expires_after), FIELDS, form)


@files.command(name="list", epilog="Example: luthier files list --purpose fine-tune")
@click.option("--purpose", default=None, help="Only files with this purpose.")
@click.option("--limit", type=click.IntRange(1, 10000), default=20, show_default=True, help="How many at most.")
@click.option("--after", default=None, help="Go on after this id.")
@with_form
@with_place
def list_files(purpose: str | None, limit: int, after: str | None, place: Place, form: Form) -> None:
    """List files, newest first."""
    page = get(place.client(), "/files", purpose=purpose, limit=limit, after=after)
    show_page(page, FIELDS, form, more="luthier files list")


@files.command(name="get", epilog="Example: luthier files get file-abc123")
@click.argument("file_id")
@with_form
@with_place
def get_file(file_id: str, place: Place, form: Form) -> None:
    """Show the file FILE_ID."""
    show_object(get(place.client(), f"/files/{quote(file_id, safe='')}"), FIELDS, form)


@files.command(epilog="Example: luthier files content file-abc123 --csv > metrics.csv")
@click.argument("file_id")
@click.option("--csv", "as_csv", is_flag=True, help="A job's metrics as CSV, not as the base64 of it that OpenAI's service sends.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write to this file.")
@with_place
def content(file_id: str, as_csv: bool, output: Path | None, place: Place) -> None:
    """Write the bytes of FILE_ID to standard output."""
    query: dict[str, Any] = {"extra_query": {"format": "csv"}} if as_csv else {}
    with place.client().files.with_streaming_response.content(file_id, **query) as answer:
        if output is None:
            for piece in answer.iter_bytes(_CHUNK_BYTES):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return
        write_whole(output, answer.iter_bytes(_CHUNK_BYTES))


def write_whole(output: Path, pieces: Any) -> None:
    """All of it or nothing: an answer that breaks off leaves no half of a file."""
    half = output.with_name(f".{output.name}.part")
    try:
        with half.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        half.replace(output)
    except OSError as error:
        raise click.FileError(str(output), error.strerror or str(error)) from error
    finally:
        half.unlink(missing_ok=True)


@files.command(name="delete", epilog="Example: luthier files delete file-abc123")
@click.argument("file_id")
@with_form
@with_place
def delete_file(file_id: str, place: Place, form: Form) -> None:
    """Delete the file FILE_ID. Jobs that use it keep their own snapshot."""
    show_object(delete(place.client(), f"/files/{quote(file_id, safe='')}"), _DELETED, form)


@files.command(name="from-completions", epilog="Example: luthier files from-completions --metadata task=triage --filename triage.jsonl")
@click.option(
    "--metadata", multiple=True, callback=pairs, required=True, help="name=value that a stored completion must carry; repeatable."
)
@click.option("--model", default=None, help="Only completions of this model.")
@click.option("--filename", default=None, help="Name of the new file.")
@with_form
@with_place
def from_completions(metadata: dict[str, str], model: str | None, filename: str | None, place: Place, form: Form) -> None:
    """Make a training file from stored chat completions."""
    asked: dict[str, Any] = {"metadata": metadata, "model": model, "filename": filename}
    body = {name: value for name, value in asked.items() if value is not None}
    show_object(post(place.client(), "/luthier/files/from_completions", body), _MADE, form)
