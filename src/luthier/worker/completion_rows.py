"""Rows out of stored completions, and what each of them belongs to: a conversation, a customer, whatever its metadata says.

What it does: writes the rows that a filter names; knows a row of a stored completion again by its bytes, also in a file that was
made earlier. What it does not: split (``data/split.py``). Called by ``dataset_kinds.py``.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import orjson

from luthier.api.captured import Captured, CompletionFilter, captured_rows, matching
from luthier.api.stored import training_rows
from luthier.core.errors import InvalidRequest
from luthier.core.stored_completions import StoredCompletion
from luthier.data.new_file import new_file
from luthier.worker.dataset_context import DatasetContext

_TELL_EVERY = 200


class RowKeys:
    """Line -> key, for lines that are rows of stored completions whose metadata has all the names asked for."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._keys: dict[bytes, str] = {}

    def add(self, record: StoredCompletion, lines: Sequence[bytes]) -> None:
        """Note the rows of one completion. The same row said in two conversations keeps the first one's key."""
        values = [record.metadata.get(name) for name in self._names]
        if self._names and None not in values:
            key = orjson.dumps(values).decode()
            for line in lines:
                self._keys.setdefault(_digest(line), key)

    def key_of(self, line: bytes) -> str | None:
        """The key of a line without its end."""
        return self._keys.get(_digest(line))


def write_completions(ctx: DatasetContext, output: Path, names: Sequence[str]) -> tuple[Captured, RowKeys]:
    """Write the rows of the completions that the task's ``stored_completions`` names.

    Raises:
        InvalidRequest: no row, or more bytes than a file may have.
        NotFound: an id that is none.
    """
    wanted = CompletionFilter(**ctx.options["stored_completions"])
    counts, keys, limit = Captured(), RowKeys(names), ctx.settings.max_upload_bytes
    with new_file(output) as file:
        for record, lines in captured_rows(ctx.completions, wanted, counts, max_line_bytes=ctx.settings.max_line_bytes):
            if counts.num_bytes > limit:
                message = f"The file would be larger than the maximum of {limit} bytes. Ask for fewer with 'limit'."
                raise InvalidRequest(message, param="stored_completions.limit")
            keys.add(record, lines)
            file.write(b"".join(lines))
            if counts.num_read % _TELL_EVERY == 0:
                ctx.progress.tell(counts.num_read, None, "completions")
    return counts, keys


def keys_of_all(ctx: DatasetContext, names: Sequence[str]) -> RowKeys:
    """The keys of every row that the project's stored completions give, to find them again in a file."""
    keys = RowKeys(names)
    for number, record in enumerate(matching(ctx.completions, CompletionFilter()), start=1):
        keys.add(record, training_rows(record)[0])
        if number % _TELL_EVERY == 0:
            ctx.progress.tell(number, None, "completions")
    return keys


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line.strip(), digest_size=16).digest()
