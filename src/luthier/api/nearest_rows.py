"""The rows of a tuned model's training file that are most like a prompt, by their words.

What it does: finds the file of the job that made the model, indexes its first rows once, and answers from the index. What it does not:
claim that a row caused an answer. Called by ``routes/prediction.py`` on a thread.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.api.deps import Services
from luthier.core.jobs import ModelRecord
from luthier.core.prediction import short
from luthier.core.similar_rows import RowIndex, TextRow

NEAREST = 5
MAX_READ_BYTES = 8 * 1024 * 1024
"""Of a file: its beginning. Keeps the index within a second and some tens of megabytes."""
_MAX_INDEXES = 4
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class _Indexed:
    index: RowIndex
    whole: bool
    """False where the file goes on after what was read."""


_indexes: OrderedDict[str, _Indexed] = OrderedDict()
_lock = threading.Lock()


def nearest_rows(services: Services, record: ModelRecord, text: str) -> tuple[list[dict[str, Any]] | None, str | None]:
    """The rows, best first, and what is to be said about what is missing.

    Args:
        services: of the caller's project.
        record: the model.
        text: the prompt.
    """
    job = None if record.job_id is None else services.jobs.get(record.job_id)
    if job is None or not job.training_sha256:
        return None, "No job of this project made this model, so that there is no training file to search."
    indexed = _index_of(services, job.training_sha256)
    if indexed is None:
        return None, "The training file is no longer there."
    told = [
        {
            "line": found.row.line,
            "similarity": short(found.similarity),
            "shared": list(found.shared),
            "prompt": found.row.prompt[:_SHOWN_CHARACTERS],
            "answer": found.row.answer[:_SHOWN_CHARACTERS],
        }
        for found in indexed.index.similar(text, NEAREST)
    ]
    if not told:
        return None, f"None of the {len(indexed.index.rows)} searched training rows shares a telling word with the prompt."
    reason = None if indexed.whole else f"Only the first {len(indexed.index.rows)} rows of the training file were searched."
    return told, reason


def prompt_text(messages: Sequence[dict[str, Any]] | None, prompt: str | None) -> str:
    """What a request asks, as one text."""
    return prompt or "" if messages is None else _joined(messages)


def _index_of(services: Services, sha256: str) -> _Indexed | None:
    with _lock:
        if sha256 in _indexes:
            _indexes.move_to_end(sha256)
            return _indexes[sha256]
        path = services.blobs.path(sha256)
        if not path.is_file():
            return None
        indexed = _Indexed(index=RowIndex.of(_rows(path)), whole=path.stat().st_size <= MAX_READ_BYTES)
        _indexes[sha256] = indexed
        while len(_indexes) > _MAX_INDEXES:
            _indexes.popitem(last=False)
        return indexed


def _rows(path: Path) -> Iterator[TextRow]:
    read = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            read += len(line)
            if read > MAX_READ_BYTES:
                return
            row = _row(number, line)
            if row is not None:
                yield row


def _row(number: int, line: bytes) -> TextRow | None:
    """None for a line that is no row of a known kind; the check of the file has told about it."""
    try:
        plain = json.loads(line)
        if "messages" in plain:
            said = plain["messages"]
            last = max((i for i, m in enumerate(said) if m.get("role") == "assistant"), default=len(said))
            return TextRow(line=number, prompt=_joined(said[:last]), answer=_joined(said[last : last + 1]))
        if "input" in plain:
            return TextRow(line=number, prompt=_joined(plain["input"]["messages"]), answer=_joined(plain["preferred_output"]))
        return TextRow(line=number, prompt=_joined([{"content": plain["prompt"]}]), answer=_joined([{"content": plain["completion"]}]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _joined(messages: Sequence[dict[str, Any]]) -> str:
    text = "\n".join(_text(message.get("content")) for message in messages)
    # A row may hold half a surrogate pair, which has no place in an answer.
    return text.encode("utf-8", "replace").decode()


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
