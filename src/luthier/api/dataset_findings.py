"""All findings of a dataset task, streamed from its file as JSON, as JSON lines or as CSV.

What it does: reads line by line, in flat memory, however many there are. What it does not: find any. Called by
``routes/datasets.py``.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import orjson
from starlette.responses import StreamingResponse

from luthier.core.data_report import csv_cells
from luthier.core.dataset_tasks import FINDING_COLUMNS, FINDINGS_FILE, DatasetKind, DatasetTask, DatasetTaskStatus
from luthier.core.errors import InvalidRequest
from luthier.core.settings import Settings

_PIECE = 256 * 1024


def findings_reply(settings: Settings, task: DatasetTask, form: str) -> StreamingResponse:
    """The answer.

    Args:
        form: ``json`` for a list object, ``jsonl`` for one object a line, ``csv`` for a table with a head.

    Raises:
        InvalidRequest: the task is not completed.
    """
    if task.status is not DatasetTaskStatus.COMPLETED:
        raise InvalidRequest(f"The findings of a dataset task are there once it is completed; {task.id} is {task.status}.", param="id")
    path = settings.datasets_dir / task.id / FINDINGS_FILE
    headers = {"content-disposition": f'attachment; filename="{task.id}-findings.{form}"'}
    if form == "jsonl":
        lines = (line + b"\n" for line in _lines(path))
        return StreamingResponse(_in_pieces(lines), media_type="application/jsonl", headers=headers)
    if form == "csv":
        return StreamingResponse(_in_pieces(_csv(path, task.kind)), media_type="text/csv; charset=utf-8", headers=headers)
    return StreamingResponse(_in_pieces(_json(path)), media_type="application/json")


def _lines(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with path.open("rb") as file:
            for line in file:
                yield line.rstrip(b"\n")


def _json(path: Path) -> Iterator[bytes]:
    yield b'{"object":"list","data":['
    for number, line in enumerate(_lines(path)):
        yield b"," + line if number else line
    yield b'],"has_more":false}'


def _csv(path: Path, kind: DatasetKind) -> Iterator[bytes]:
    columns = FINDING_COLUMNS.get(kind, FINDING_COLUMNS[DatasetKind.CHECK])
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(columns)
    for line in _lines(path):
        table.writerow(csv_cells(orjson.loads(line), columns))
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


def _in_pieces(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The parts joined to pieces that are worth sending."""
    piece = bytearray()
    for part in parts:
        piece += part
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)
