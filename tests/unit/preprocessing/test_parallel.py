"""Several processes give the same rows in the same order as one, whatever becomes of them."""

import os
import signal
from functools import partial
from typing import Any

import pytest

from luthier.chat.renderer import Renderer
from luthier.core.errors import InvalidRequest
from luthier.data.stage import collect
from luthier.preprocessing.parallel import tokenize_over_processes
from luthier.preprocessing.tokenize import CHUNK_ROWS, tokenize_all
from tests.support.examples import chat_file
from tests.support.mini import MINI
from tests.support.token_rows import as_values


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "chat.jsonl"
    path.write_bytes(chat_file(150) * 8)
    return collect("file-A", path, role="training", max_line_bytes=100_000, sha256="")


class Refusing:
    """Refuses the second row of each chunk; ends every process but ``spared``, when there is one."""

    def __init__(self, spared: int | None) -> None:
        self._spared = spared

    def in_bulk(self, conversations):
        return None

    def examples(self, conversations, row_format):
        if self._spared is not None and os.getpid() != self._spared:
            os.kill(os.getpid(), signal.SIGKILL)
        rendered = Renderer.load(MINI).examples(conversations[:3], row_format)
        return [rendered[0], InvalidRequest("Roles must alternate."), *[rendered[2]] * (len(conversations) - 2)]


def _values(chunks):
    """Line, refusal and examples of each row."""
    rows = []
    for chunk in chunks:
        examples = [as_values(e) for e in chunk.table]
        for i, (line, count) in enumerate(zip(chunk.lines, chunk.counts, strict=True)):
            rows.append((line, chunk.refusals.get(i), examples[:count]))
            del examples[:count]
        assert not examples
    return rows


@pytest.mark.parametrize("processes", [1, 2])
def test_rows_come_as_from_one_process(dataset, processes):
    load = partial(Renderer.load, MINI)
    alone = _values(tokenize_all(dataset.examples, load(), dataset.row_format, max_length=40))
    assert len(alone) == len(dataset.examples)
    together = tokenize_over_processes(dataset.examples, load, dataset.row_format, max_length=40, processes=processes)
    assert _values(together) == alone


@pytest.mark.parametrize("deadly", [False, True])
def test_refusals_come_back_and_killed_processes_are_made_up_for(dataset, deadly):
    load: Any = partial(Refusing, os.getpid() if deadly else None)
    alone: Any = Refusing(None)
    rows = _values(tokenize_over_processes(dataset.examples, load, dataset.row_format, max_length=40, processes=2))
    assert rows == _values(tokenize_all(dataset.examples, alone, dataset.row_format, max_length=40))
    refused = [row for row in rows if row[1] is not None]
    assert refused == [(start + 2, "Roles must alternate.", []) for start in range(0, len(dataset.examples), CHUNK_ROWS)]
