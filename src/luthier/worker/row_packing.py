"""The places of a whole file's rows in packed sequences, for a page that shows a few of them.

What it does: reads and tokenizes every row as a supervised job does, keeps the lengths alone (16 bytes an example), packs them. What it
does not: fail over faulty rows, keep tokens, or show (``row_preview.py``). Called by ``show_row.py`` and
``dataset_examinations.py``. No torch.
"""

from array import array
from collections.abc import Callable
from pathlib import Path

from luthier.core.errors import InvalidRequest
from luthier.core.examples import RowFormat
from luthier.data.chosen_lines import rows_of
from luthier.data.sound_examples import SoundExamples
from luthier.data.validate import Method
from luthier.preprocessing.places import FilePlaces, pack_lines
from luthier.preprocessing.tokenize import CHUNK_ROWS, tokenize_chunk
from luthier.worker.row_preview import Reader

_SUPERVISED = (RowFormat.CHAT, RowFormat.PROMPT_COMPLETION)


def pack_file(
    path: Path, reader: Reader, *, method: Method | None, max_line_bytes: int, on_progress: Callable[[int], None] = lambda _: None
) -> FilePlaces:
    """Pack the examples of a file at the length at which rows are cut.

    Args:
        path: the file.
        reader: of the base model.
        method: what the rows are for; None takes it from the file's first row.
        max_line_bytes: longest line.
        on_progress: is given the bytes read so far, about once a megabyte.

    Raises:
        InvalidRequest: the rows are not for supervised training.
        OSError: the file cannot be read.
    """
    row_format = rows_of(path, method=method, max_line_bytes=max_line_bytes)
    if row_format is not None and row_format not in _SUPERVISED:
        raise InvalidRequest(
            f"Only supervised rows are packed; {path.name} has {row_format.value} rows, whose sequences are read one by one. "
            "Ask without packing."
        )
    rows = SoundExamples(path, max_line_bytes=max_line_bytes, file_id=path.name)
    max_length = int(reader.max_length.value)
    lines, lengths, num_without = array("q"), array("q"), 0
    for chunk in rows.chunks(CHUNK_ROWS, on_progress):
        assert rows.row_format is not None
        done = tokenize_chunk(chunk, reader.renderer, rows.row_format, max_length=max_length)
        num_without += done.counts.count(0)
        lines.extend(done.table.columns["lines"].tolist())
        lengths.extend(done.table.lengths.tolist())
    return pack_lines(lines, lengths, max_length, num_left_out=rows.num_left_out + num_without)
